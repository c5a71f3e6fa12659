// Categorical cross-entropy from log-probabilities: −Σ t·log p as given, neither checked nor renormalised.
// Twin: src/loss/categorical_log_probabilities.rs.

struct State {
    // Σ −coefficient · log p over the finite entries under HUGE, and of the others times SMALL: sums of both signs may
    // pass any float on their way.
    terms: f32,
    huge: f32,
    flags: u32,
}

// A term that is NaN; a term of +∞; a term of −∞.
const UNDEFINED: u32 = 1u;
const RISING: u32 = 2u;
const FALLING: u32 = 4u;

// 2^-32, 2^32.
const SMALL: f32 = 2.3283064365386963e-10;
const LARGE: f32 = 4294967296.0;

fn identity() -> State {
    return State(0.0, 0.0, 0u);
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
        var huge = vec4<f32>(0.0);
        for (var i = 0u; i < 4u; i++) {
            if block.present[i] && block.coefficient[i] != 0.0 {
                let flags = special(block.bits[i], block.coefficient[i]);
                s.flags |= flags;
                if flags == 0u {
                    let x = bitcast<f32>(block.bits[i]);
                    if abs(x) < HUGE {
                        terms[i] = -block.coefficient[i] * x;
                    } else {
                        huge[i] = -block.coefficient[i] * (SMALL * x);
                    }
                }
            }
        }
        s.terms += sum(terms);
        s.huge += sum(huge);
    }
    return s;
}

fn merge(a: State, b: State) -> State {
    return State(a.terms + b.terms, a.huge + b.huge, a.flags | b.flags);
}

fn two_walks() -> bool {
    return false;
}

fn term(s: State, block: Block) -> f32 {
    return 0.0;
}

fn finish(s: State, terms: f32, label: Label) -> u32 {
    var loss = fma(s.huge, LARGE, s.terms);
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
