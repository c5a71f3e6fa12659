@group(0) @binding(3) var<storage, read> class_weights: array<f32>;

fn class_weight(class_index: u32) -> f32 {
    return class_weights[min(class_index, params.classes - 1u)];
}
