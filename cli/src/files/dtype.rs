//! Element types as files store them, and bytes into numbers.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The type of an element, without its byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// numpy's name of the type; `bfloat16` for the one that numpy lacks.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::I16 => "int16",
            Self::U16 => "uint16",
            Self::I32 => "int32",
            Self::U32 => "uint32",
            Self::I64 => "int64",
            Self::U64 => "uint64",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// Whether elements are floats; integers and bool are not.
    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }
}

/// Reverses the bytes of every element.
pub(super) fn swap_bytes(bytes: &mut [u8], size: usize) {
    match size {
        2 => bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|b| b.reverse()),
        4 => bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|b| b.reverse()),
        8 => bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|b| b.reverse()),
        _ => {}
    }
}

/// One number from each `S` bytes; a plain loop over chunks of known size, which the compiler vectorises.
fn each<const S: usize, T>(bytes: &[u8], out: &mut [T], decode: impl Fn([u8; S]) -> T) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<S>().0) {
        *out = decode(*bytes);
    }
}

/// float16 through the slice conversions of `half`, which use the machine's own instruction.
fn each_half<T>(bytes: &[u8], out: &mut [T], slice: impl Fn(&[f16], &mut [T]), one: impl Fn(f16) -> T) {
    match bytemuck::try_cast_slice::<u8, f16>(bytes) {
        Ok(halves) if halves.len() == out.len() => slice(halves, out),
        // Bytes at an odd address.
        _ => each(bytes, out, |b| one(f16::from_ne_bytes(b))),
    }
}

// The casts are the point of these functions: each says what its own cast does to a value that does not fit.
macro_rules! numbers {
    ($dtype:ident, $bytes:ident, $out:ident, $to:ty, $half:expr, $brain:expr) => {
        match $dtype {
            Dtype::Bool => each($bytes, $out, |[b]| <$to>::from(u8::from(b != 0))),
            Dtype::I8 => each($bytes, $out, |b| i8::from_ne_bytes(b) as $to),
            Dtype::U8 => each($bytes, $out, |[b]| <$to>::from(b)),
            Dtype::I16 => each($bytes, $out, |b| i16::from_ne_bytes(b) as $to),
            Dtype::U16 => each($bytes, $out, |b| u16::from_ne_bytes(b) as $to),
            Dtype::I32 => each($bytes, $out, |b| i32::from_ne_bytes(b) as $to),
            Dtype::U32 => each($bytes, $out, |b| u32::from_ne_bytes(b) as $to),
            Dtype::I64 => each($bytes, $out, |b| i64::from_ne_bytes(b) as $to),
            Dtype::U64 => each($bytes, $out, |b| u64::from_ne_bytes(b) as $to),
            Dtype::F16 => $half,
            Dtype::Bf16 => each($bytes, $out, |b| $brain(bf16::from_ne_bytes(b))),
            Dtype::F32 => each($bytes, $out, |b| f32::from_ne_bytes(b) as $to),
            Dtype::F64 => each($bytes, $out, |b| f64::from_ne_bytes(b) as $to),
        }
    };
}

/// A number that elements are read as.
pub(super) trait Number: bytemuck::Pod {
    /// The stored type that needs no conversion.
    const STORED_AS: Dtype;

    /// Fills `out` from elements of type `dtype` in this machine's byte order.
    fn decode(dtype: Dtype, bytes: &[u8], out: &mut [Self]);
}

impl Number for f32 {
    const STORED_AS: Dtype = Dtype::F32;

    /// float64 and the wide integers are rounded to the nearest float32.
    fn decode(dtype: Dtype, bytes: &[u8], out: &mut [Self]) {
        let half = |out: &mut [Self]| each_half(bytes, out, <[f16]>::convert_to_f32_slice, f16::to_f32);
        numbers!(dtype, bytes, out, f32, half(out), bf16::to_f32);
    }
}

impl Number for f64 {
    const STORED_AS: Dtype = Dtype::F64;

    /// Integers beyond 2^53 are rounded to the nearest float64; everything else is exact.
    fn decode(dtype: Dtype, bytes: &[u8], out: &mut [Self]) {
        let half = |out: &mut [Self]| each_half(bytes, out, <[f16]>::convert_to_f64_slice, f16::to_f64);
        numbers!(dtype, bytes, out, f64, half(out), bf16::to_f64);
    }
}

impl Number for i64 {
    const STORED_AS: Dtype = Dtype::I64;

    /// For integers; an unsigned one above the range comes out negative, which tells it apart. Floats are cut to whole
    /// numbers, so a caller that must not lose a fraction reads them as f64.
    fn decode(dtype: Dtype, bytes: &[u8], out: &mut [Self]) {
        numbers!(dtype, bytes, out, i64, each(bytes, out, |b| f16::from_ne_bytes(b).to_f64() as i64), |b: bf16| b.to_f64()
            as i64);
    }
}

/// Types that are read as they are stored and as nothing else: the library takes them so.
macro_rules! as_stored {
    ($($type:ty: $dtype:ident),+) => {
        $(impl Number for $type {
            const STORED_AS: Dtype = Dtype::$dtype;

            /// For elements of this very type.
            fn decode(dtype: Dtype, bytes: &[u8], out: &mut [Self]) {
                debug_assert_eq!(dtype, Self::STORED_AS, "there is no conversion");
                each(bytes, out, Self::from_ne_bytes);
            }
        })+
    };
}

as_stored!(i8: I8, u8: U8, i16: I16, u16: U16, i32: I32, u32: U32, u64: U64, f16: F16, bf16: Bf16);
