// Rows one after the other, or alternating.
@group(0) @binding(1) var<storage, read> predictions: array<vec4<u32>>;
const IN_PLACE: bool = false;

// Four predictions as float32 bits: element 4·quad and the three after it.
fn load_quad(quad: u32) -> vec4<u32> {
    return predictions[quad];
}

// One prediction.
fn load_element(element: u32) -> u32 {
    return predictions[element / 4u][element % 4u];
}
