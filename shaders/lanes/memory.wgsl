// Lanes meet in workgroup memory.

var<workgroup> meeting: array<array<u32, PACKED>, LANES>;
// What each of several teams has to say.
var<workgroup> votes: array<u32, LANES>;

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

fn exchange_1(mine: u32, lane: u32, reach: u32) -> u32 {
    workgroupBarrier();
    meeting[lane][0] = mine;
    workgroupBarrier();
    return meeting[lane ^ reach][0];
}

// The highest peak of a team.
fn join_peak(mine: u32, lane: u32) -> u32 {
    var peak = mine;
    for (var reach = 1u; reach < TEAM; reach *= 2u) {
        peak = higher_peak(peak, exchange_1(peak, lane, reach));
    }
    return peak;
}

// The sums of a team's bulks.
fn join_bulk(mine: vec4<f32>, lane: u32) -> vec4<f32> {
    var bulk = mine;
    for (var reach = 1u; reach < TEAM; reach *= 2u) {
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            if i < bulk_values() {
                meeting[lane][i] = bitcast<u32>(bulk[i]);
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            if i < bulk_values() {
                bulk[i] += bitcast<f32>(meeting[lane ^ reach][i]);
            }
        }
    }
    return bulk;
}

// Whether any team of the workgroup says so. All lanes of a team say the same, and all come to the same branch.
fn any_team(mine: bool, lane: u32) -> bool {
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
