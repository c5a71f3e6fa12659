// The choices that a kernel is compiled with, and what its parts hand to each other. Twin: src/layout.rs. What it reads and
// writes stands in shaders/bindings/, a buffer a file, since no kernel binds what it has no use for.

// Targets are dense, not class indices.
override DENSE: bool;
// Every class has a coefficient: targets are dense, or smoothed. Without it the label alone counts.
override SPREAD: bool;
// The terms come from the fold itself, without a second walk.
override CLOSED: bool;
// There are class weights.
override WEIGHTED: bool;
// Logits are scaled or capped.
override MOVED: bool;
// Predictions of 16 bits are bfloat16.
override BRAIN: bool;
// The gradient is wanted.
override GRADIENT: bool;
// The label's rank, the logsumexp, or what calibration needs is wanted.
override RANKED: bool;
override LOGSUMEXP: bool;
override CALIBRATED: bool;
// Rows alternate, as `inner` says.
override STRIDED: bool;
// Every row begins with a word; where rows alternate, every fourth.
override ALIGNED: bool;
// Four walks side by side are over four rows; else over parts of one.
override APART: bool;
// A lane may have more blocks than eight times DEPTH.
override LONG: bool;
// Classes, where the kernel is for just so many; else 0.
override NARROW: u32;
// Lanes of a workgroup.
override LANES: u32;
// Lanes that share a row.
override TEAM: u32;
// Predictions of a part of a row, a multiple of four.
override PART: u32;
// Lanes that are surely of one subgroup; 1 where there are none.
override TOGETHER: u32;

// Whether the fold carries the terms along: then the first walk needs coefficients, and else not.
fn carries_terms() -> bool {
    return SPREAD && CLOSED;
}

// Classes of a row.
fn class_count() -> u32 {
    return select(params.classes, NARROW, NARROW > 0u);
}

// The rank of a row that holds a NaN.
override RANK_NAN: u32;
// Set in a rank when the label is the first of the row's maxima.
override RANK_FIRST: u32;

// Values of a row's record, and the places of those that follow the loss.
override FIELDS: u32;
override RANK_FIELD: u32;
override LOGSUMEXP_FIELD: u32;
override PLAIN_FIELD: u32;
override ENTROPY_FIELD: u32;
override BRIER_FIELD: u32;
override CONFIDENCE_FIELD: u32;

// Four predictions: neighbouring classes of a row, or one class of four rows.
struct Block {
    // float32 as bits; what changes no state where absent.
    bits: vec4<u32>,
    classes: vec4<u32>,
    // False before the row's first class and after its last.
    present: vec4<bool>,
    // Of dense targets, as bits.
    aim: vec4<u32>,
    // The target as given, and class weight times smoothed target; 0 where absent. Filled in where asked for.
    given: vec4<f32>,
    coefficient: vec4<f32>,
}

// What is known of one class once the row is folded.
struct Share {
    // The prediction, transformed where it is a logit.
    x: f32,
    // Its probability, and what is left to 1, with all of its digits.
    p: f32,
    rest: f32,
    // −log p.
    surprise: f32,
    // p stands at a clip bound: the loss does not move with it.
    clipped: bool,
    // What −log p is where it is no finite number; see SPECIAL below.
    special: u32,
}

// What a class adds to the loss, and the part of the gradient that does not come from other classes.
struct Term {
    loss: f32,
    // coefficient · p · dφ/dp, for a loss Σ coefficient · φ(p).
    slope: f32,
}

// Sums over a row's classes in the second walk.
struct Terms {
    loss: f32,
    // Terms of linear losses that are beyond most floats, times SMALL: their sum may not be.
    beyond: f32,
    pull: f32,
    // Cross-entropy with the target as given, entropy, and squared distance to the label.
    plain: f32,
    entropy: f32,
    brier: f32,
    special: u32,
}

// SPECIAL: NaN; +∞; −∞.
const UNDEFINED: u32 = 1u;
const RISING: u32 = 2u;
const FALLING: u32 = 4u;
// So many bits up stand the same flags of the plain cross-entropy.
const PLAIN: u32 = 4u;

// What the label alone brings.
struct Label {
    class_index: u32,
    bits: u32,
    weight: f32,
}
