// Categorical cross-entropy: −Σ c·log p. Twin: src/loss/categorical.rs.

fn term(class_share: Share, coefficient: f32, given: f32) -> Term {
    return Term(coefficient * class_share.surprise, select(-coefficient, 0.0, class_share.clipped));
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
