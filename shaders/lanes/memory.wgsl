// Lanes meet in workgroup memory.

var<workgroup> meeting: array<array<u32, PACKED>, LANES>;

struct Place {
    @builtin(local_invocation_index) index: u32,
}

fn lane_of(place: Place) -> u32 {
    return place.index;
}

// The words of the lane `reach` (a power of two) away.
fn exchange(mine: array<u32, PACKED>, lane: u32, reach: u32, words: u32) -> array<u32, PACKED> {
    var theirs: array<u32, PACKED>;
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
