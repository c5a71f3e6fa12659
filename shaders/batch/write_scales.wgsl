// What each row's gradient of a mean is multiplied with: its weight by what all are divided by.

@group(0) @binding(15) var<storage, read_write> row_scales: array<f32>;

override BY_WEIGHT: bool;

@compute @workgroup_size(LANES)
fn write_scales(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let all = join_parts(lane);
    let divisor = select(f32(all.kept), all.weight, BY_WEIGHT);
    for (var row = group.x * LANES + lane; row < row_count(); row += groups.x * LANES) {
        // Where nothing counts, nothing has a gradient.
        row_scales[row] = select(sample_weight(row) / divisor, 0.0, divisor == 0.0);
    }
}
