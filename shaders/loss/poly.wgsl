// Poly-1: Σ c·(−log p + ε₁·(1 − p)). Twin: src/loss/poly.rs.

fn term(class_share: Share, coefficient: f32, given: f32) -> Term {
    let slope = -coefficient * (1.0 + params.poly * class_share.p);
    return Term(coefficient * (class_share.surprise + params.poly * class_share.rest), select(slope, 0.0, class_share.clipped));
}

fn special(class_share: Share, coefficient: f32, given: f32) -> u32 {
    if coefficient == 0.0 {
        return 0u;
    }
    return signed_special(class_share.special, coefficient);
}

// Its terms are multiples of −log p.
fn is_linear() -> bool {
    return true;
}
