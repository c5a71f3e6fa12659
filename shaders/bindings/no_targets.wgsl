// Dense targets have no label: every row counts.
fn given_class(row: u32) -> u32 {
    return 0u;
}

fn load_class(row: u32) -> u32 {
    return 0u;
}
