fn write_word(at: u32, bits: vec4<u32>) {}

fn write_element(element: u32, bits: u32) {}
