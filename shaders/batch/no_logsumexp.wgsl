fn write_logsumexp(row: u32, bits: u32) {}
