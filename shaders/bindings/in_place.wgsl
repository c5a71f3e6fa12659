// The gradient takes the place of the predictions: a row is read before anything of it is written.
const IN_PLACE: bool = true;

fn load_quad(quad: u32) -> vec4<u32> {
    return gradient_word(quad);
}

fn load_element(element: u32) -> u32 {
    return gradients[element / 4u][element % 4u];
}
