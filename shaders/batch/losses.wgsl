@group(0) @binding(11) var<storage, read_write> losses: array<u32>;

fn write_loss(row: u32, bits: u32) {
    losses[row] = bits;
}
