// Class indices, one a row, or float32 laid out as the predictions are, from the same element on.
@group(0) @binding(2) var<storage, read> targets: array<vec4<u32>>;
