// The words of a row that a lane of a team takes. Where they lie in what is bound, `in_window`, is the driver's.

fn load_block(w: Walk, k: u32, coefficients: bool) -> Block {
    let quad = w.first + k * w.step;
    let classes = vec4<u32>(quad * 4u - w.start) + vec4<u32>(0u, 1u, 2u, 3u);
    // Before the row the subtraction wraps around, to more than any class. No load waits for a branch.
    let present = (classes < vec4<u32>(params.classes)) & vec4<bool>(k < w.count);
    let at = in_window(min(quad, w.last));
    var aim = vec4<u32>(0u);
    if DENSE {
        aim = targets[at];
    }
    return make_block(load_quad(at), classes, present, aim, vec4<u32>(w.label), coefficients);
}

fn load_bits(w: Walk, k: u32) -> array<vec4<u32>, DEPTH> {
    var bits: array<vec4<u32>, DEPTH>;
    for (var i = 0u; i < DEPTH; i++) {
        bits[i] = load_quad(in_window(min(w.first + (k + i) * w.step, w.last)));
    }
    return bits;
}

fn mask_bits(w: Walk, k: u32, loaded: array<vec4<u32>, DEPTH>) -> array<vec4<u32>, DEPTH> {
    var bits = loaded;
    // Words that are not the row's alone are at its beginning and its end; it has more than four classes.
    let first = (w.first + k * w.step) * 4u - w.start;
    let last = first + (DEPTH - 1u) * w.step * 4u;
    let whole = params.classes - 4u;
    if first > whole || last > whole || k + DEPTH > w.count {
        for (var i = 0u; i < DEPTH; i++) {
            let classes = vec4<u32>(first + i * w.step * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
            let present = (classes < vec4<u32>(params.classes)) & vec4<bool>(k + i < w.count);
            bits[i] = select(vec4<u32>(ABSENT), bits[i], present);
        }
    }
    return bits;
}

// Writes the gradients of a lane's blocks, several at a time, so that their loads are under way together.
fn write_gradients_of(w: Walk, row: Finished) {
    for (var k = 0u; k < w.count; k += DEPTH) {
        var blocks: array<Block, DEPTH>;
        for (var i = 0u; i < DEPTH; i++) {
            blocks[i] = gradient_block(w, k + i);
        }
        for (var i = 0u; i < DEPTH; i++) {
            write_gradient(in_window(w.first + (k + i) * w.step), row, blocks[i]);
        }
    }
}
