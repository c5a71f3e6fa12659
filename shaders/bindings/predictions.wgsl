// Rows one after the other, or alternating: float32, or 16-bit floats as HALF and BRAIN say.
@group(0) @binding(1) var<storage, read> predictions: array<vec4<u32>>;

fn prediction_word(at: u32) -> vec4<u32> {
    return predictions[at];
}
