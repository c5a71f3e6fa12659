// The parts of a batch into its totals and its status.

// 0: the sum; 1: the mean over rows that count; 2: the mean weighted by samples and classes.
override REDUCTION: u32;
// What is there already is added to.
override ACCUMULATES: bool;

// Counts stop at the largest number.
fn count_on(before: u32, more: u32) -> u32 {
    let sum = before + more;
    return select(sum, 0xffffffffu, sum < before);
}

@compute @workgroup_size(LANES)
fn sum_all(@builtin(local_invocation_index) lane: u32) {
    let all = join_parts(lane);
    if lane == 0u {
        write_totals(row_count(), all);
        write_status(row_count(), all);
    }
}
