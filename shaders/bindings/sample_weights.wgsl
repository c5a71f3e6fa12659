@group(0) @binding(9) var<storage, read> sample_weights: array<f32>;

fn sample_weight(row: u32) -> f32 {
    return sample_weights[row];
}
