// Binary cross-entropy from logits, a class by itself. Twin: src/loss/binary_logits.rs.

fn term(class_share: Share, coefficient: f32, given: f32) -> Term {
    // 1 − t′, from 1 − t: t′ has not its digits.
    let complement = (1.0 - given) * params.keep + params.spread;
    if class_share.special == RISING {
        // −∞ masks a class: `special` says what that costs.
        return Term(0.0, -coefficient);
    }
    let e = exp_in(vec4<f32>(-abs(class_share.x)), 0.0).x;
    let tail = e / (1.0 + e);
    if class_share.x > 0.0 {
        // sigmoid − t′ = (1 − t′) − (1 − sigmoid).
        return Term(fma(complement * params.share, class_share.x, log1p(e) * params.share), complement - tail);
    }
    return Term(fma(coefficient * params.share, -class_share.x, log1p(e) * params.share), tail - coefficient);
}

fn special(class_share: Share, coefficient: f32, given: f32) -> u32 {
    if class_share.special == RISING {
        return select(RISING, 0u, coefficient == 0.0);
    }
    return select(0u, UNDEFINED, class_share.special != 0u);
}

// Its terms are no multiples of −log p.
fn is_linear() -> bool {
    return false;
}
