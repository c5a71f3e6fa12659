// The records of rows into an array for each value.

override FIELDS: u32;
override LOGSUMEXP_FIELD: u32;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn give_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var row = group.x * LANES + lane; row < row_count(); row += groups.x * LANES) {
        write_loss(row, records[row * FIELDS]);
        write_logsumexp(row, records[row * FIELDS + LOGSUMEXP_FIELD]);
    }
}
