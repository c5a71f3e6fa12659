@group(0) @binding(12) var<storage, read_write> logsumexp: array<u32>;

fn write_logsumexp(row: u32, bits: u32) {
    logsumexp[row] = bits;
}
