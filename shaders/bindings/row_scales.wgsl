// What each row's gradient is multiplied with, besides what all are.
@group(0) @binding(4) var<storage, read> row_scales: array<f32>;

fn row_scale(row: u32) -> f32 {
    return row_scales[row];
}
