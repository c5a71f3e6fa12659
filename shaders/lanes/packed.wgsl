// What lanes hand to each other, as words.

const PACKED: u32 = 12u;

// The words that there is something in.
fn found_words() -> u32 {
    if DENSE || RANKED {
        return PACKED;
    }
    return STATE_WORDS;
}

fn pack_found(f: Found) -> array<u32, PACKED> {
    var words: array<u32, PACKED>;
    let state = pack_state(f.state);
    for (var i = 0u; i < STATE_WORDS; i++) {
        words[i] = state[i];
    }
    words[5] = bitcast<u32>(f.best.key);
    words[6] = f.best.class_index;
    words[7] = f.best.bits;
    words[8] = f.best.undefined;
    words[9] = f.rank.above;
    words[10] = f.rank.before;
    words[11] = f.rank.undefined;
    return words;
}

fn unpack_found(words: array<u32, PACKED>) -> Found {
    var state: array<u32, STATE_WORDS>;
    for (var i = 0u; i < STATE_WORDS; i++) {
        state[i] = words[i];
    }
    return Found(
        unpack_state(state),
        Best(bitcast<i32>(words[5]), words[6], words[7], words[8]),
        Rank(words[9], words[10], words[11]),
    );
}

fn pack_summed(s: Summed) -> array<u32, PACKED> {
    return array<u32, PACKED>(
        bitcast<u32>(s.terms.loss),
        bitcast<u32>(s.terms.beyond),
        bitcast<u32>(s.terms.pull),
        bitcast<u32>(s.terms.plain),
        bitcast<u32>(s.terms.entropy),
        bitcast<u32>(s.terms.brier),
        s.terms.special,
        s.rank.above,
        s.rank.before,
        s.rank.undefined,
        0u,
        0u,
    );
}

fn unpack_summed(words: array<u32, PACKED>) -> Summed {
    return Summed(
        Terms(
            bitcast<f32>(words[0]),
            bitcast<f32>(words[1]),
            bitcast<f32>(words[2]),
            bitcast<f32>(words[3]),
            bitcast<f32>(words[4]),
            bitcast<f32>(words[5]),
            words[6],
        ),
        Rank(words[7], words[8], words[9]),
    );
}
