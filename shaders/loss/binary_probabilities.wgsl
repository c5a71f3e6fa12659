// Binary cross-entropy from probabilities, clipped, a class by itself. Twin: src/loss/binary_probabilities.rs.

fn term(class_share: Share, coefficient: f32, given: f32) -> Term {
    // 1 − t′, from 1 − t: t′ has not its digits.
    let complement = (1.0 - given) * params.keep + params.spread;
    let p = clamp(class_share.x, params.lowest, params.highest);
    let loss = -coefficient * log_of(p, p - 1.0) - complement * log_of(1.0 - p, -p);
    let slope = complement / (1.0 - p) - coefficient / p;
    return Term(loss * params.share, select(slope, 0.0, p != class_share.x));
}

fn special(class_share: Share, coefficient: f32) -> u32 {
    return select(0u, UNDEFINED, class_share.special != 0u);
}

// Its terms are no multiples of −log p.
fn is_linear() -> bool {
    return false;
}
