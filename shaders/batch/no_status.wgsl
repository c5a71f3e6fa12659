fn write_status(rows: u32, p: Partial) {}
