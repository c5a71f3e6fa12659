// Binary cross-entropy from probabilities, clipped, a class by itself. Twin: src/loss/binary_probabilities.rs.

// 1 − t′, from 1 − t: t′ has not its digits.
fn complement_of(given: f32) -> f32 {
    return (1.0 - given) * params.keep + params.spread;
}

fn term(class_share: Share, coefficient: f32, given: f32) -> Term {
    let complement = complement_of(given);
    let p = clamp(class_share.x, params.lowest, params.highest);
    // An ε that float32 does not take away from 1 leaves p = 1 as it is: right it costs nothing, wrong it is `special`.
    let log_rest = select(log_of(1.0 - p, -p), 0.0, p == 1.0);
    let loss = -coefficient * log_of(p, p - 1.0) - complement * log_rest;
    let slope = select(complement / (1.0 - p), 0.0, complement == 0.0) - coefficient / p;
    return Term(loss * params.share, select(slope, 0.0, p != class_share.x));
}

fn special(class_share: Share, coefficient: f32, given: f32) -> u32 {
    if class_share.special != 0u {
        return UNDEFINED;
    }
    let complement = complement_of(given);
    let infinite = select(RISING, FALLING, complement < 0.0);
    return select(0u, infinite, min(class_share.x, params.highest) == 1.0 && complement != 0.0);
}

// Its terms are no multiples of −log p.
fn is_linear() -> bool {
    return false;
}
