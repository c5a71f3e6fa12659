// Kullback-Leibler divergence: Σ y·log(y / p), both clipped to [ε, 1]. Twin: src/loss/kl_divergence.rs.

fn term(class_share: Share, coefficient: f32, given: f32) -> Term {
    let y = clamp(given, params.lowest, 1.0);
    let p = clamp(class_share.x, params.lowest, 1.0);
    let ratio = y / p;
    var loss = y * log_of(ratio, ratio - 1.0);
    if p > 0.5 * y && p < 2.0 * y {
        // Where the two are near each other, their difference is exact and their quotient is not.
        let excess = (p - y) / y;
        loss = -y * log_of(1.0 + excess, excess);
    }
    return Term(loss, select(-ratio, 0.0, p != class_share.x));
}

fn special(class_share: Share, coefficient: f32, given: f32) -> u32 {
    return select(0u, UNDEFINED, class_share.special != 0u);
}

// Its terms are no multiples of −log p.
fn is_linear() -> bool {
    return false;
}
