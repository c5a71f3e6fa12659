// Lanes of a subgroup shuffle; farther ones meet in workgroup memory.

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

// Of teams within a subgroup this is all that there is, and no barrier stays in the shader.
fn is_near(reach: u32) -> bool {
    return TEAM <= TOGETHER || reach < TOGETHER;
}

// The words of the lane `reach` (a power of two) away.
fn exchange(mine: array<u32, PACKED>, lane: u32, reach: u32, words: u32) -> array<u32, PACKED> {
    if is_near(reach) {
        var theirs: array<u32, PACKED>;
        for (var i = 0u; i < PACKED; i++) {
            if i < words {
                theirs[i] = subgroupShuffleXor(mine[i], reach);
            }
        }
        return theirs;
    }
    return meet(mine, lane, reach, words);
}

fn exchange_1(mine: u32, lane: u32, reach: u32) -> u32 {
    if is_near(reach) {
        return subgroupShuffleXor(mine, reach);
    }
    return meet_1(mine, lane, reach);
}

// The highest peak of a team.
fn join_peak(mine: u32, lane: u32) -> u32 {
    var peak = mine;
    for (var reach = 1u; reach < min(TEAM, TOGETHER); reach *= 2u) {
        peak = higher_peak(peak, subgroupShuffleXor(peak, reach));
    }
    if TEAM > TOGETHER {
        workgroupBarrier();
        if lane % TOGETHER == 0u {
            meeting[lane / TOGETHER][0] = peak;
        }
        workgroupBarrier();
        let first = lane / TEAM * (TEAM / TOGETHER);
        peak = meeting[first][0];
        for (var i = 1u; i < TEAM / TOGETHER; i++) {
            peak = higher_peak(peak, meeting[first + i][0]);
        }
    }
    return peak;
}

// The sums of a team's bulks.
fn join_bulk(mine: vec4<f32>, lane: u32) -> vec4<f32> {
    var bulk = mine;
    for (var reach = 1u; reach < min(TEAM, TOGETHER); reach *= 2u) {
        if bulk_values() <= 2u {
            bulk += vec4<f32>(subgroupShuffleXor(bulk.x, reach), subgroupShuffleXor(bulk.y, reach), 0.0, 0.0);
        } else {
            bulk += subgroupShuffleXor(bulk, reach);
        }
    }
    if TEAM > TOGETHER {
        workgroupBarrier();
        if lane % TOGETHER == 0u {
            for (var i = 0u; i < 4u; i++) {
                if i < bulk_values() {
                    meeting[lane / TOGETHER][i] = bitcast<u32>(bulk[i]);
                }
            }
        }
        workgroupBarrier();
        let first = lane / TEAM * (TEAM / TOGETHER);
        bulk = vec4<f32>(0.0);
        for (var team = 0u; team < TEAM / TOGETHER; team++) {
            for (var i = 0u; i < 4u; i++) {
                if i < bulk_values() {
                    bulk[i] += bitcast<f32>(meeting[first + team][i]);
                }
            }
        }
    }
    return bulk;
}

// Whether any team of those that would come to a barrier together says so. All lanes of a team say the same, so that they come to
// the same branch, which a browser's compiler would not see: browsers have lanes meet in memory.
fn any_team(mine: bool, lane: u32) -> bool {
    if TEAM <= TOGETHER {
        return subgroupAny(mine);
    }
    if TEAM == LANES {
        return mine;
    }
    return vote(mine, lane);
}
