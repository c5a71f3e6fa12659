// FIELDS values a row, as bits: a driver may assume that floats are never NaN.
@group(0) @binding(5) var<storage, read_write> records: array<u32>;
