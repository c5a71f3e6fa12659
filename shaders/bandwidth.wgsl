// What memory can do when it is only read, or only copied: the yardsticks of `src/bench/bandwidth.rs`.
//
// A workgroup takes blocks of 4·LANES words of 16 bytes, a grid's length apart. In a block each lane has four words, side by
// side with those of its neighbours, so that four loads of a lane are under way at once.

// Lanes of a workgroup.
override LANES: u32;

@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> destination: array<vec4<u32>>;

@compute @workgroup_size(LANES)
fn read_all(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let words = arrayLength(&source);
    var a = vec4<u32>();
    var b = vec4<u32>();
    var c = vec4<u32>();
    var d = vec4<u32>();
    var at = group.x * 4u * LANES + lane;
    for (; at + 3u * LANES < words; at += groups.x * 4u * LANES) {
        a ^= source[at];
        b ^= source[at + LANES];
        c ^= source[at + 2u * LANES];
        d ^= source[at + 3u * LANES];
    }
    // What a lane has of the last block.
    for (; at < words; at += LANES) {
        a ^= source[at];
    }
    let sum = (a ^ b) ^ (c ^ d);
    // Noise is never this, but no compiler knows: the loads have to be made.
    if all(sum == vec4<u32>(0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au)) {
        destination[lane] = sum;
    }
}

@compute @workgroup_size(LANES)
fn copy_all(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let words = min(arrayLength(&source), arrayLength(&destination));
    var at = group.x * 4u * LANES + lane;
    for (; at + 3u * LANES < words; at += groups.x * 4u * LANES) {
        let a = source[at];
        let b = source[at + LANES];
        let c = source[at + 2u * LANES];
        let d = source[at + 3u * LANES];
        destination[at] = a;
        destination[at + LANES] = b;
        destination[at + 2u * LANES] = c;
        destination[at + 3u * LANES] = d;
    }
    for (; at < words; at += LANES) {
        destination[at] = source[at];
    }
}
