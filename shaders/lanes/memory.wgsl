// Lanes that do not shuffle: all of them meet in workgroup memory.

struct Place {
    @builtin(local_invocation_index) index: u32,
}

fn lane_of(place: Place) -> u32 {
    return place.index;
}

fn exchange(mine: array<u32, PACKED>, lane: u32, reach: u32, words: u32) -> array<u32, PACKED> {
    return meet(mine, lane, reach, words);
}

fn exchange_1(mine: u32, lane: u32, reach: u32) -> u32 {
    return meet_1(mine, lane, reach);
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

fn any_team(mine: bool, lane: u32) -> bool {
    return vote(mine, lane);
}
