// The same where a word may have elements of two rows, which are written side by side. A store of one component of a vector
// may write all of it (so it is on Metal), and undo a neighbour's: elements of an array are memory apart from each other.
@group(0) @binding(6) var<storage, read_write> gradients: array<array<u32, 4>>;

fn gradient_word(at: u32) -> vec4<u32> {
    return vec4<u32>(gradients[at][0], gradients[at][1], gradients[at][2], gradients[at][3]);
}

fn write_word(at: u32, bits: vec4<u32>) {
    gradients[at] = array<u32, 4>(bits.x, bits.y, bits.z, bits.w);
}

fn write_element(element: u32, bits: u32) {
    gradients[element / 4u][element % 4u] = bits;
}
