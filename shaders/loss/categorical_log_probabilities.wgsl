// Categorical cross-entropy from log-probabilities: −Σ t·log p as given, neither checked nor renormalised.
// Twin: src/loss/categorical_log_probabilities.rs.

struct State {
    // Σ −coefficient · log p over the finite terms.
    terms: f32,
    flags: u32,
}

// A term that is NaN; a term of +∞; a term of −∞.
const UNDEFINED: u32 = 1u;
const RISING: u32 = 2u;
const FALLING: u32 = 4u;

fn identity() -> State {
    return State(0.0, 0u);
}

// What coefficient · −x is, apart from a finite number. `coefficient` is not 0.
fn special(bits: u32, coefficient: f32) -> u32 {
    if is_nan(bits) {
        return UNDEFINED;
    }
    if is_finite(bits) {
        return 0u;
    }
    return select(FALLING, RISING, (bits == NEGATIVE_INFINITE) == (coefficient > 0.0));
}

fn absorb(before: State, block: Block) -> State {
    var s = before;
    if SPREAD {
        var terms = vec4<f32>(0.0);
        for (var i = 0u; i < 4u; i++) {
            if block.present[i] && block.coefficient[i] != 0.0 {
                let flags = special(block.bits[i], block.coefficient[i]);
                s.flags |= flags;
                if flags == 0u {
                    terms[i] = -block.coefficient[i] * bitcast<f32>(block.bits[i]);
                }
            }
        }
        s.terms += sum(terms);
    }
    return s;
}

fn merge(a: State, b: State) -> State {
    return State(a.terms + b.terms, a.flags | b.flags);
}

fn two_walks() -> bool {
    return false;
}

fn term(s: State, block: Block) -> f32 {
    return 0.0;
}

fn finish(s: State, terms: f32, label: Label) -> u32 {
    var loss = s.terms;
    var flags = s.flags;
    if !SPREAD {
        loss = 0.0;
        if label.weight != 0.0 {
            flags |= special(label.bits, label.weight);
            if flags == 0u {
                loss = -label.weight * bitcast<f32>(label.bits);
            }
        }
    }
    if (flags & UNDEFINED) != 0u || (flags & (RISING | FALLING)) == (RISING | FALLING) {
        return NAN;
    }
    if (flags & RISING) != 0u {
        return INFINITE;
    }
    if (flags & FALLING) != 0u {
        return NEGATIVE_INFINITE;
    }
    return bitcast<u32>(loss);
}
