// Lanes meet in workgroup memory.

var<workgroup> meeting: array<array<u32, PACKED>, LANES>;
// What each of several teams has to say.
var<workgroup> votes: array<u32, LANES>;

// The words of the lane `reach` (a power of two) away.
fn meet(mine: array<u32, PACKED>, lane: u32, reach: u32, words: u32) -> array<u32, PACKED> {
    var theirs: array<u32, PACKED>;
    // What was there before has been read.
    workgroupBarrier();
    for (var i = 0u; i < PACKED; i++) {
        if i < words {
            meeting[lane][i] = mine[i];
        }
    }
    workgroupBarrier();
    for (var i = 0u; i < PACKED; i++) {
        if i < words {
            theirs[i] = meeting[lane ^ reach][i];
        }
    }
    return theirs;
}

// The same of one word.
fn meet_1(mine: u32, lane: u32, reach: u32) -> u32 {
    workgroupBarrier();
    meeting[lane][0] = mine;
    workgroupBarrier();
    return meeting[lane ^ reach][0];
}

// Whether any team of the workgroup says so. All lanes of a team say the same, and all come to the same branch.
fn vote(mine: bool, lane: u32) -> bool {
    workgroupBarrier();
    if lane % TEAM == 0u {
        votes[lane / TEAM] = select(0u, 1u, mine);
    }
    workgroupBarrier();
    if lane == 0u {
        for (var team = 1u; team < LANES / TEAM; team++) {
            votes[0] |= votes[team];
        }
    }
    return workgroupUniformLoad(&votes[0]) != 0u;
}
