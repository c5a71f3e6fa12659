//! What a loss does with its classes once their row is folded: sums of terms, the row's loss, its gradient.
//! Twin: `shaders/terms.wgsl`.

use super::isa::Isa;
use super::math::LANES;
use super::targets::{RowLabel, RowTargets};
use crate::explain::{Explanation, Step};
use crate::fold::Fold;
use crate::loss::{LossTerm, Prepared};

/// Sums over a row's classes in the second walk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    pub loss: f64,
    pub pull: f64,
    /// Cross-entropy with the target as given, entropy, and squared distance to the label.
    pub plain: f64,
    pub entropy: f64,
    pub brier: f64,
}

/// A row that was folded, with its predictions and targets.
pub(super) struct Folded<'a, F: Fold> {
    pub prepared: &'a Prepared,
    pub row: F::Row,
    pub predictions: &'a [f32],
    pub targets: RowTargets<'a>,
    /// The label's class.
    pub label: usize,
}

impl<F: Fold> Folded<'_, F> {
    /// Whether the row's terms need a second walk.
    fn sums_terms(&self) -> bool {
        self.prepared.spreads() && !self.prepared.is_closed()
    }

    /// The second walk.
    #[inline(always)]
    pub(super) fn walk<I: Isa, T: LossTerm>(&self, calibrated: bool) -> Terms {
        if !self.sums_terms() && !calibrated {
            return Terms::default();
        }
        let summed = self.sums_terms();
        let mut sums = [[0.0_f64; LANES]; 5];
        for (i, x) in self.predictions.chunks(LANES).enumerate() {
            for (l, &x) in x.iter().enumerate() {
                let class = i * LANES + l;
                let of = F::share::<I>(&self.row, self.prepared, x);
                let given = self.targets.given(class);
                if summed {
                    let term = T::term::<I>(self.prepared, &of, self.targets.coefficient(self.prepared, class), given);
                    sums[0][l] += term.loss;
                    sums[1][l] += f64::from(term.slope);
                }
                if calibrated {
                    let raw = F::unclipped::<I>(&self.row, self.prepared, x);
                    let distance = f64::from(if class == self.label { raw.rest } else { raw.p });
                    sums[2][l] += if given == 0.0 { 0.0 } else { f64::from(given) * of.surprise };
                    sums[3][l] += f64::from(raw.p) * raw.surprise;
                    sums[4][l] += distance * distance;
                }
            }
        }
        let [loss, pull, plain, entropy, brier] = sums.map(|sum| sum.iter().sum());
        Terms { loss, pull, plain, entropy, brier }
    }

    /// The row's loss before anything extra, and its pull: from the second walk where that summed them, else from the fold
    /// or the label alone.
    #[inline(always)]
    fn sums<I: Isa, T: LossTerm>(&self, walked: &Terms) -> (f64, f64) {
        if self.sums_terms() {
            (walked.loss, walked.pull)
        } else if self.prepared.spreads() {
            F::closed_terms(&self.row)
        } else {
            let of = F::share::<I>(&self.row, self.prepared, self.predictions[self.label]);
            let term = T::term::<I>(self.prepared, &of, self.prepared.class_weight(self.label), 1.0);
            (term.loss, f64::from(term.slope))
        }
    }

    /// The row's loss.
    #[inline(always)]
    pub(super) fn loss<I: Isa, T: LossTerm>(&self, walked: &Terms) -> f32 {
        let (loss, _) = self.sums::<I, T>(walked);
        let loss = loss + F::extra_loss(&self.row, self.prepared);
        if F::is_undefined(&self.row) { f32::NAN } else { loss as f32 }
    }

    /// The row's gradient times `scale`; NaN throughout where the loss is.
    #[inline(always)]
    pub(super) fn gradient<I: Isa, T: LossTerm>(&self, walked: &Terms, scale: f32, undefined: bool, out: &mut [f32]) {
        let (loss, pull) = self.sums::<I, T>(walked);
        if undefined || F::is_undefined(&self.row) || loss.is_nan() {
            out.fill(f32::NAN);
            return;
        }
        let (pull, scale) = (pull as f32, self.prepared.share * scale);
        for (class, (out, &x)) in out.iter_mut().zip(self.predictions).enumerate() {
            let of = F::share::<I>(&self.row, self.prepared, x);
            let coefficient = self.targets.coefficient(self.prepared, class);
            let term = T::term::<I>(self.prepared, &of, coefficient, self.targets.given(class));
            *out = F::through::<I>(&self.row, self.prepared, x, &of, term.slope, pull) * scale;
        }
    }

    /// The row step by step, with the same hooks.
    pub(super) fn explain<I: Isa, T: LossTerm>(&self, ignored: bool, label: Option<RowLabel>) -> Explanation {
        let prepared = self.prepared;
        let step = |(class, &given): (usize, &f32)| {
            let raw = F::unclipped::<I>(&self.row, prepared, given);
            // The focal loss clips what the softmax leaves.
            let used = F::share::<I>(&self.row, prepared, given);
            let used = if prepared.clips() { used.clip(prepared) } else { used };
            let target = if ignored { 0.0 } else { self.targets.given(class) };
            let coefficient = if ignored { 0.0 } else { self.targets.coefficient(prepared, class) };
            let term = T::term::<I>(prepared, &used, coefficient, target);
            let none = !prepared.is_distribution() || F::is_undefined(&self.row);
            Step {
                class,
                given,
                // Temperature alone is not in the fold's logits: it acts on their differences.
                moved: if prepared.softcap == 0.0 { given * prepared.sharpness } else { used.x },
                probability: if none { f32::NAN } else { raw.p },
                clipped: if none { f32::NAN } else { used.p },
                is_clipped: !none && used.clipped,
                log: -used.surprise as f32,
                target: if ignored { 0.0 } else { self.targets.raw(class) },
                coefficient,
                term: if ignored { 0.0 } else { (term.loss / f64::from(prepared.share)) as f32 },
            }
        };
        let walked = self.walk::<I, T>(false);
        let finite = label.is_none_or(|label| label.finite);
        Explanation {
            loss: if ignored {
                0.0
            } else if finite {
                self.loss::<I, T>(&walked)
            } else {
                f32::NAN
            },
            ignored,
            label: label.map(|label| label.class),
            normaliser: F::normaliser(&self.row),
            extra: if ignored { 0.0 } else { F::extra_loss(&self.row, prepared) },
            share: prepared.share,
            steps: self.predictions.iter().enumerate().map(step).collect(),
        }
    }
}
