// The numbers of a batch, from the host and from the caller's step. Twin: src/layout.rs.

struct Params {
    // Rows of this window.
    rows: u32,
    // Classes of a row.
    classes: u32,
    // Elements before the window's first row in its first quad of four (0 to 3). A row thus keeps its place within the
    // quads however the batch is cut into windows, and with it the order of its sums.
    first: u32,
    // −log of the upper clip bound: what a certain and right prediction costs.
    nearest: f32,
    // −log of the lower clip bound: what a certain and wrong prediction costs.
    farthest: f32,
    // The clip bounds.
    lowest: f32,
    highest: f32,
    // What label smoothing keeps of a target, 1 − α.
    keep: f32,
    // What it gives to every class: α / classes, or α / 2 for binary losses.
    spread: f32,
    // Focal: the exponent of 1 − p, and the factor.
    gamma: f32,
    alpha: f32,
    // Poly-1: the coefficient of 1 − p.
    poly: f32,
    // The coefficient of logsumexp².
    z_loss: f32,
    // 1 / temperature, and what that lost when it was rounded.
    sharpness: f32,
    sharpness_lost: f32,
    // The bound that logits approach; 0 for none.
    softcap: f32,
    // The share of each class in the row's loss: 1, or 1 / classes for binary losses, whose terms have it.
    share: f32,
    // Rows that alternate: class c of row r is c·inner elements after the row's first. 1 where classes lie side by side.
    inner: u32,
    // Of rows in parts: parts of a row, the first of them in this window, and how many of them are.
    parts: u32,
    first_part: u32,
    part_count: u32,
    // What every gradient is multiplied with, besides what each row's is, and whether it is divided by the number of rows.
    scale: f32,
    divided: u32,
    // The label of rows that do not count, if there is one.
    ignored: u32,
    ignores: u32,
    // What tells the device's arithmetic apart, and what compilers are not to know: see math.wgsl and halves.wgsl.
    fused: f32,
    fused_square: f32,
    round_up: f32,
    round_down: f32,
    halves: u32,
}

// What may change from one submission to the next without the host.
struct Step {
    // Rows, of those that there is room for.
    rows: u32,
    // What every gradient is multiplied with, once more.
    scale: f32,
    unused: vec2<u32>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(8) var<uniform> caller: Step;

fn row_count() -> u32 {
    return min(params.rows, caller.rows);
}
