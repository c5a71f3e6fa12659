// float32 as bits, laid out as float32 predictions are: words that one lane writes alone, or one after the other.
@group(0) @binding(6) var<storage, read_write> gradients: array<vec4<u32>>;

fn gradient_word(at: u32) -> vec4<u32> {
    return gradients[at];
}

fn write_word(at: u32, bits: vec4<u32>) {
    gradients[at] = bits;
}

fn write_element(element: u32, bits: u32) {
    gradients[element / 4u][element % 4u] = bits;
}
