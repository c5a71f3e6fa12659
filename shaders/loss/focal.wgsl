// Focal loss: Σ c·α·(1 − p)^γ·(−log p), p clipped also where it comes from logits. Twin: src/loss/focal.rs.

fn term(class_share: Share, coefficient: f32, given: f32) -> Term {
    let clipped = clip(class_share);
    let weight = coefficient * params.alpha * power(clipped.rest, params.gamma);
    // p·d/dp: of the logarithm −1, of the power −γ·p / (1 − p) times the logarithm.
    let steep = params.gamma * clipped.p * clipped.surprise / clipped.rest;
    // −log p / (1 − p) goes to 1, where an ε that float32 does not take away from 1 leaves nothing to divide by.
    let slope = -weight * (1.0 + select(steep, params.gamma, clipped.rest < SMALLEST));
    return Term(weight * clipped.surprise, select(slope, 0.0, clipped.clipped));
}

// Clipping leaves no infinity.
fn special(class_share: Share, coefficient: f32, given: f32) -> u32 {
    return 0u;
}

// Its terms are no multiples of −log p.
fn is_linear() -> bool {
    return false;
}
