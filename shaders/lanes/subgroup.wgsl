// Lanes of a subgroup shuffle; farther ones meet in workgroup memory.

var<workgroup> meeting: array<array<u32, PACKED>, LANES>;

// Lanes are counted subgroup by subgroup, whatever their size here and however a driver lays them out. The workgroup is a
// multiple of it, so none has lanes to spare.
struct Place {
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) index: u32,
}

fn lane_of(place: Place) -> u32 {
    return place.subgroup * place.size + place.index;
}

// The words of the lane `reach` (a power of two) away.
fn exchange(mine: array<u32, PACKED>, lane: u32, reach: u32, words: u32) -> array<u32, PACKED> {
    var theirs: array<u32, PACKED>;
    // Of teams within a subgroup this is all that is left, and no barrier stays in the shader.
    if TEAM <= TOGETHER || reach < TOGETHER {
        for (var i = 0u; i < words; i++) {
            theirs[i] = subgroupShuffleXor(mine[i], reach);
        }
        return theirs;
    }
    // What was there before has been read.
    workgroupBarrier();
    for (var i = 0u; i < words; i++) {
        meeting[lane][i] = mine[i];
    }
    workgroupBarrier();
    for (var i = 0u; i < words; i++) {
        theirs[i] = meeting[lane ^ reach][i];
    }
    return theirs;
}
