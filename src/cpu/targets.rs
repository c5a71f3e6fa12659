//! Targets into coefficients, and the label of a row. Twin: `shaders/targets.wgsl`.

use crate::loss::Prepared;

/// The label of a dense target: its first maximum, and whether all of its entries are finite.
#[inline(always)]
pub(super) fn best(targets: impl Iterator<Item = f32>) -> (usize, bool) {
    let (mut class, mut value, mut finite) = (0, f32::NEG_INFINITY, true);
    for (c, t) in targets.enumerate() {
        finite &= t.is_finite();
        if t > value {
            (class, value) = (c, t);
        }
    }
    (class, finite)
}

impl Prepared {
    /// Class weight times smoothed target.
    #[inline(always)]
    pub(super) fn coefficient(&self, class: usize, target: f32) -> f32 {
        let smoothed = target * self.keep + self.spread;
        match &self.class_weights {
            Some(weights) => smoothed * weights[class],
            None => smoothed,
        }
    }
}
