//! Valid files with bits flipped, bytes inserted and ends cut off: an error or numbers, never a panic, a hang, or more
//! memory than the file's size explains.

use super::containers::npz;
use super::*;
use zip::CompressionMethod;

/// xorshift64*, so that every run mutates alike.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        // Bytes that headers give a meaning come up more often.
        const LIKELY: &[u8] = b"\0\xff\x7f\x80(),'\"{}[]:-0189<>|=LPK\x93";
        if self.below(2) == 0 { LIKELY[self.below(LIKELY.len())] } else { self.below(256) as u8 }
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            // Headers are at the front, a zip's directory is at the back: data in between matters less.
            let length = bytes.len();
            let at = match self.below(4) {
                0 => self.below(length),
                1 => length - self.below(length.min(150)).min(length),
                _ => self.below(length.min(150)),
            };
            match self.below(7) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 if at < length => drop(bytes.remove(at)),
                3 if at < length => bytes[at] ^= 1 << self.below(8),
                4 => {
                    // A whole length or offset at once.
                    let byte = self.byte();
                    let count = [2, 4, 8][self.below(3)];
                    bytes.iter_mut().skip(at).take(count).for_each(|place| *place = byte);
                }
                5 => {
                    let from = self.below(length);
                    let piece: Vec<u8> = bytes[from..].iter().take(self.below(40)).copied().collect();
                    bytes.splice(at..at, piece);
                }
                _ if at < length => bytes[at] = self.byte(),
                _ => {}
            }
        }
    }
}

#[test]
fn mutations() {
    const ROUNDS: usize = 3000;
    let folder = Folder::new();
    let shape = [3, 4, 5];
    let member = npy_of("<f4", &shape, false, &floats(60));
    let fortran = npy_of(">i2", &shape, true, &data(Dtype::I16, &shape, true, true));
    let tensors = r#"{"a":{"dtype":"BF16","shape":[3,4,5],"data_offsets":[0,120]},"b":{"dtype":"I64","shape":[2],"data_offsets":[120,136]}}"#;
    let tensors = [&(tensors.len() as u64).to_le_bytes()[..], tensors.as_bytes(), &[0; 136]].concat();
    let files = [
        ("c.npy", "", member.clone()),
        ("f.npy", "", fortran.clone()),
        ("s.npz", ":a", npz(&[("a.npy", &member), ("b.npy", &fortran)], CompressionMethod::Stored, false)),
        ("d.npz", ":b", npz(&[("a.npy", &member), ("b.npy", &fortran)], CompressionMethod::Deflated, false)),
        ("z.npz", "", npz(&[("a.npy", &member)], CompressionMethod::Deflated, true)),
        ("t.safetensors", ":a", tensors),
    ];
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for (name, member, valid) in files {
        let spec = format!("{name}{member}");
        folder.put(name, &valid);
        read_everything(&folder.open(&spec).unwrap()).unwrap();
        let mut opened = 0;
        for _ in 0..ROUNDS {
            let mut bytes = valid.clone();
            random.mutate(&mut bytes);
            folder.put(name, &bytes);
            match folder.open(&spec) {
                Ok(source) => {
                    opened += 1;
                    // Deflate makes a byte of at most 1032.
                    let most = if name == "d.npz" || name == "z.npz" { 1032 } else { 1 } * bytes.len() as u64;
                    assert!(source.stored_bytes() <= most, "{name}: {} bytes in {}", source.stored_bytes(), bytes.len());
                    if let Err(error) = read_everything(&source) {
                        assert!(error.to_string().contains(name), "{error}");
                    }
                }
                Err(error) => {
                    let line = error.to_string();
                    assert!(line.contains(name) && !line.contains(char::is_control) && line.len() < 1000, "{line}");
                }
            }
        }
        assert!((ROUNDS / 100..ROUNDS).contains(&opened), "{name}: {opened} of {ROUNDS} mutations opened");
    }
}
