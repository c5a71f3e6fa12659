fn write_loss(row: u32, bits: u32) {}
