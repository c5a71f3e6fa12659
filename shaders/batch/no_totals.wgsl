fn write_totals(rows: u32, p: Partial) {}
