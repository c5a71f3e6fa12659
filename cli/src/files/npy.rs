//! The header of `.npy`: magic, version, and a Python dictionary of three keys.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. Strict where a guess could change
//! the numbers (unknown keys, unknown types, anything after the dictionary), lenient where writers differ (spaces, the
//! order of keys, both kinds of quotes, trailing commas, Python 2's `3L`).

use super::dtype::Dtype;
use super::excerpt;
use std::io::{ErrorKind, Read};

/// What every `.npy` starts with.
pub(super) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// numpy itself writes some hundred bytes; more than this is no header.
const LONGEST: usize = 1 << 20;

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) big_endian: bool,
    /// The first axis moves fastest.
    pub(super) fortran: bool,
    pub(super) shape: Vec<usize>,
    /// Bytes before the first element.
    pub(super) length: u64,
}

/// Reads a header and nothing after it. An error is the problem alone, without the file's name.
pub(super) fn read_header(reader: &mut impl Read) -> Result<Header, String> {
    let mut magic = [0; 8];
    fill(reader, &mut magic)?;
    if magic[..6] != MAGIC[..] {
        return Err(format!("no .npy data: starts with the bytes {:02x?}", &magic[..6]));
    }
    let version = magic[6];
    let (length, size_bytes) = match version {
        1 => {
            let mut bytes = [0; 2];
            fill(reader, &mut bytes)?;
            (usize::from(u16::from_le_bytes(bytes)), 2)
        }
        2 | 3 => {
            let mut bytes = [0; 4];
            fill(reader, &mut bytes)?;
            (u32::from_le_bytes(bytes) as usize, 4)
        }
        _ => {
            return Err(format!("version {version} of the .npy format; 1, 2 and 3 are known"));
        }
    };
    if length > LONGEST {
        return Err(format!("its header claims {length} bytes; the limit is {LONGEST}"));
    }
    let mut text = vec![0; length];
    fill(reader, &mut text)?;
    if !text.is_ascii() {
        return Err("its header is not ASCII".into());
    }
    let (dtype, big_endian, fortran, shape) = Parser { text: &text, at: 0 }.dictionary()?;
    Ok(Header { dtype, big_endian, fortran, shape, length: (8 + size_bytes + length) as u64 })
}

fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> Result<(), String> {
    reader.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => "cut short inside its header".into(),
        _ => format!("cannot read: {error}"),
    })
}

/// The type and whether its bytes are in big-endian order.
fn parse_dtype(descr: &str) -> Result<(Dtype, bool), String> {
    let (big_endian, code) = match descr.as_bytes().first() {
        Some(b'>') => (true, &descr[1..]),
        Some(b'<') => (false, &descr[1..]),
        Some(b'|' | b'=') => (cfg!(target_endian = "big"), &descr[1..]),
        _ => (cfg!(target_endian = "big"), descr),
    };
    let dtype = match code {
        "?" | "b1" => Dtype::Bool,
        "i1" => Dtype::I8,
        "u1" => Dtype::U8,
        "i2" => Dtype::I16,
        "u2" => Dtype::U16,
        "i4" => Dtype::I32,
        "u4" => Dtype::U32,
        "i8" => Dtype::I64,
        "u8" => Dtype::U64,
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        _ => {
            return Err(format!("elements of type {}; only bool, integers and float16, 32, 64 can be read", excerpt(descr)));
        }
    };
    Ok((dtype, big_endian))
}

/// A reader of the few Python literals that a header holds. The text is ASCII, so every byte is a character.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn dictionary(&mut self) -> Result<(Dtype, bool, bool, Vec<usize>), String> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.take(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            let repeated = match key {
                "descr" => descr.replace(self.descr()?).is_some(),
                "fortran_order" => fortran.replace(self.boolean()?).is_some(),
                "shape" => shape.replace(self.tuple()?).is_some(),
                _ => return Err(format!("its header has the unknown key {}", excerpt(key))),
            };
            if repeated {
                return Err(format!("its header has the key '{key}' twice"));
            }
            if !self.take(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        if self.peek().is_some() {
            return Err(self.unexpected("the end"));
        }
        let missing = |key: &str| format!("its header lacks the key '{key}'");
        let (dtype, big_endian) = descr.ok_or_else(|| missing("descr"))?;
        Ok((dtype, big_endian, fortran.ok_or_else(|| missing("fortran_order"))?, shape.ok_or_else(|| missing("shape"))?))
    }

    fn descr(&mut self) -> Result<(Dtype, bool), String> {
        match self.peek() {
            Some(b'\'' | b'"') => parse_dtype(self.string()?),
            // A list of fields. It is refused whole, so it need not be understood.
            Some(b'[') => {
                Err(format!("elements of a structured type, {}; only plain numbers can be read", excerpt(self.rest())))
            }
            _ => Err(self.unexpected("a type in quotes")),
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let Some(quote @ (b'\'' | b'"')) = self.peek() else {
            return Err(self.unexpected("a string"));
        };
        let text = self.text;
        let start = self.at + 1;
        let end = text[start..].iter().position(|&b| b == quote).ok_or("its header has a string without end")?;
        self.at = start + end + 1;
        std::str::from_utf8(&text[start..start + end]).map_err(|error| error.to_string())
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.peek();
        for (word, value) in [("True", true), ("False", false)] {
            if self.text[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.unexpected("True or False"))
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        let mut lengths = Vec::new();
        self.expect(b'(')?;
        let mut comma = false;
        while !self.take(b')') {
            lengths.push(self.length()?);
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
            comma = true;
        }
        // To Python, `(3)` is a number and no tuple.
        if lengths.len() == 1 && !comma {
            return Err(format!("its shape ({}) is a number, not a tuple", lengths[0]));
        }
        Ok(lengths)
    }

    fn length(&mut self) -> Result<usize, String> {
        if self.peek() == Some(b'-') {
            return Err("its shape has a negative length".into());
        }
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if start == self.at {
            return Err(self.unexpected("a length"));
        }
        let digits = String::from_utf8_lossy(&self.text[start..self.at]);
        let length =
            digits.parse().map_err(|_| format!("its shape has the length {}, more than any file holds", excerpt(&digits)))?;
        if matches!(self.text.get(self.at), Some(b'L' | b'l')) {
            self.at += 1;
        }
        Ok(length)
    }

    /// The next byte that is no space, left in place.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(&format!("'{}'", byte as char))) }
    }

    fn rest(&self) -> &'a str {
        std::str::from_utf8(&self.text[self.at..]).unwrap_or_default()
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.rest() {
            "" => format!("its header ends where {wanted} should stand"),
            rest => format!("its header has {} at byte {} where {wanted} should stand", excerpt(rest.trim_end()), self.at),
        }
    }
}
