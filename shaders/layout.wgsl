// What a kernel reads and writes, and the choices it is compiled with. Twin: src/layout.rs.

struct Params {
    // Rows of this window.
    rows: u32,
    // Classes of a row.
    classes: u32,
    // Elements before the window's first row in its first 16-byte word (0 to 3). A row thus keeps its place within the
    // words however the batch is cut into windows, and with it the order of its sums.
    first: u32,
    // −log of the upper clip bound: what a certain and right prediction costs.
    nearest: f32,
    // −log of the lower clip bound: what a certain and wrong prediction costs.
    farthest: f32,
    // The lower clip bound.
    lowest: f32,
    // What label smoothing keeps of a target, 1 − α.
    keep: f32,
    // What it gives to every class, α / classes.
    spread: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// float32, rows one after the other.
@group(0) @binding(1) var<storage, read> predictions: array<vec4<u32>>;
// Class indices, one a row, or float32 laid out as the predictions are.
@group(0) @binding(2) var<storage, read> targets: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> class_weights: array<f32>;
// float32 as bits: a driver may assume that floats are never NaN.
@group(0) @binding(4) var<storage, read_write> losses: array<u32>;
@group(0) @binding(5) var<storage, read_write> ranks: array<u32>;

// Targets are dense, not class indices.
override DENSE: bool;
// Every class has a coefficient: targets are dense, or smoothed. Without it the label alone counts.
override SPREAD: bool;
// There are class weights.
override WEIGHTED: bool;
// The label's rank is wanted.
override RANKED: bool;
// Lanes of a workgroup.
override LANES: u32;

// The class index of a row that does not count.
override IGNORED: u32;
// The rank of a row that holds a NaN.
override RANK_NAN: u32;
// Set in a rank when the label is the first of the row's maxima.
override RANK_FIRST: u32;

// Four neighbouring predictions of a row.
struct Block {
    bits: vec4<u32>,
    // False before the row's first class and after its last.
    present: vec4<bool>,
    // Class weight times smoothed target; 0 where absent, meaningless without SPREAD.
    coefficient: vec4<f32>,
}

// What the label alone brings.
struct Label {
    class_index: u32,
    bits: u32,
    weight: f32,
}
