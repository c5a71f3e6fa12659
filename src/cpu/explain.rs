//! One row, step by step, with the hooks that evaluate it.

use std::marker::PhantomData;

use super::folding::{fold_across, merged};
use super::isa::{Instructions, Isa, LANES, Work, portably};
use super::lanes::{F32s, F64s, Make};
use super::rows::Piece;
use super::source::{Rows, Scratch};
use super::steps;
use super::targets::{Across, Labels};
use super::terms::share_of_label;
use crate::batch::{TargetSlice, Window};
use crate::explain::{ClassStep, Explanation};
use crate::fold::plain::Alone;
use crate::fold::{Fold, Share};
use crate::layout::{IGNORED, Wanted};
use crate::loss::binary_logits::BinaryLogits;
use crate::loss::binary_probabilities::BinaryProbabilities;
use crate::loss::kl_divergence::KlDivergence;
use crate::loss::{LossTerm, Prepared, TermKind, Visitor, visit};
use crate::records::RecordsMut;

/// How the one row of a window comes to its loss.
pub(crate) fn explain(prepared: &Prepared, window: &Window<'_>) -> Explanation {
    visit(prepared.fold, prepared.term, Question { prepared, window })
}

/// A row that is to be explained.
struct Question<'a> {
    prepared: &'a Prepared,
    window: &'a Window<'a>,
}

impl Visitor for Question<'_> {
    type Output = Explanation;

    fn visit<F: Fold, T: LossTerm>(self) -> Explanation {
        let loss = self.loss::<F, T>();
        // Whatever the steps are computed with, people see the same digits.
        portably(Explain::<F, T> { question: self, loss, of: PhantomData })
    }
}

impl Question<'_> {
    /// The row's loss as the drivers have it: with other instructions, or in another order, its last digit may be another.
    fn loss<F: Fold, T: LossTerm>(&self) -> f32 {
        let mut losses = [0.0];
        let records = RecordsMut {
            rows: 1,
            classes: self.window.classes,
            losses: &mut losses,
            ranks: &mut [],
            logsumexp: &mut [],
            calibration: &mut [],
            gradient: &mut [],
        };
        let (prepared, window, wanted) = (self.prepared, self.window, Wanted::default());
        let piece = Piece { prepared, window, wanted, counts: false, scales: &[], streams: false, shared: None, records };
        piece.evaluate::<F, T>(Instructions::best());
        losses[0]
    }
}

struct Explain<'a, F, T> {
    question: Question<'a>,
    loss: f32,
    of: PhantomData<(F, T)>,
}

impl<F: Fold, T: LossTerm> Work for Explain<'_, F, T> {
    type Output = Explanation;

    #[inline(always)]
    fn run<I: Isa>(self, i: I) -> Explanation {
        let (Question { prepared, window }, loss) = (self.question, self.loss);
        let rows = Rows::of(prepared, window, 0, 1);
        let first = |v: F32s<I>| v.to_array()[0];
        let first_d = |v: F64s<I>| v.to_array()[0];
        let labels = Labels::of(i, &rows, true);
        let ignored = labels.ignored.any();
        let label = labels.class.to_array()[0];
        let across = Across::new(&rows, 0, label);
        let state = if prepared.spreads() && prepared.is_closed() {
            everywhere::<I, F, true>(i, &across)
        } else {
            everywhere::<I, F, false>(i, &across)
        };
        let row = steps::row::<I, F, false>(i, prepared, &state);
        let undefined = F::is_undefined(&row).any();
        let extra = first_d(F::extra_loss(i, prepared, &row));
        let step = |class: usize| {
            let given = rows.predictions.at(class);
            let x = i.f32s(given);
            let block = across.block(i, &[given; LANES], class);
            let raw = F::unclipped(i, prepared, &row, x);
            let is_label = block.is_label.bits() & 1 != 0;
            let used = if is_label && !prepared.spreads() {
                share_of_label::<I, F, T>(i, prepared, &row, x)
            } else {
                F::share(i, prepared, &row, x)
            };
            // The focal loss clips what the softmax leaves.
            let used = if prepared.clips() { used.clip(i, prepared) } else { used };
            let term = T::term(i, prepared, &used, block.coefficient, block.given);
            let taken = Taken::of(i, prepared, &raw, &used, undefined);
            let target = match window.targets {
                TargetSlice::Classes(_) => first(block.given),
                TargetSlice::Dense(targets) => targets[class],
            };
            let target = if ignored { 0.0 } else { target };
            let clipped_target = match prepared.term {
                TermKind::KlDivergence => first(KlDivergence::taken_target(i, prepared, i.f32s(target))),
                _ => target,
            };
            ClassStep {
                class,
                given,
                // Temperature alone is not in the fold's logits: it acts on their differences.
                moved: if prepared.softcap == 0.0 { given * prepared.sharpness } else { first(used.x) },
                probability: taken.probability,
                clipped: taken.clipped,
                // NaN is neither within the bounds nor beyond them.
                is_clipped: taken.is_clipped && !taken.clipped.is_nan(),
                log: taken.log,
                log_rest: taken.log_rest,
                target,
                clipped_target,
                coefficient: if ignored { 0.0 } else { first(block.unchecked) },
                term: match (ignored, block.bad.bits() & 1) {
                    (true, _) => 0.0,
                    (false, 0) => (first_d(term.loss) / f64::from(prepared.share)) as f32,
                    // The row is NaN because of this one.
                    (false, _) => f32::NAN,
                },
            }
        };
        Explanation {
            loss,
            ignored,
            // Where classes are not compared with a label, there is no plain cross-entropy either.
            label: (prepared.has_perplexity() && label != IGNORED).then_some(label as usize),
            normaliser: F::normaliser(i, prepared, &row).map(first_d),
            extra: if ignored { 0.0 } else { extra },
            share: prepared.share,
            steps: (0..rows.classes).map(step).collect(),
        }
    }
}

/// What the loss takes of a class.
struct Taken {
    probability: f32,
    clipped: f32,
    is_clipped: bool,
    log: f32,
    log_rest: Option<f32>,
}

impl Taken {
    /// Of a class before clipping and as it is `used`, in all lanes; `undefined` where its row has no probabilities.
    fn of<I: Isa>(i: I, prepared: &Prepared, raw: &Share<I>, used: &Share<I>, undefined: bool) -> Self {
        match prepared.term {
            TermKind::BinaryLogits => Self::alone(&BinaryLogits::taken(i, raw.x)),
            TermKind::BinaryProbabilities => Self::alone(&BinaryProbabilities::taken(i, prepared, raw.x)),
            TermKind::KlDivergence => Self::alone(&KlDivergence::taken(i, prepared, raw.x)),
            TermKind::Categorical | TermKind::Focal | TermKind::Poly => {
                let log = -used.surprise.to_array()[0] as f32;
                let [probability, clipped] = if undefined {
                    [f32::NAN; 2]
                } else if prepared.is_distribution() {
                    [raw.p, used.p].map(|p| p.to_array()[0])
                } else {
                    // The loss takes log-probabilities as they are: e^x is for people alone.
                    [f64::from(log).exp() as f32; 2]
                };
                Self { probability, clipped, is_clipped: used.clipped.any(), log, log_rest: None }
            }
        }
    }

    /// Of a class by itself.
    fn alone<I: Isa>(of: &Alone<I>) -> Self {
        let first = |v: F32s<I>| v.to_array()[0];
        let [probability, clipped] = [of.p, of.clipped].map(first);
        Self { probability, clipped, is_clipped: clipped != probability, log: first(of.log), log_rest: of.log_rest.map(first) }
    }
}

/// The first row, folded, in all lanes.
#[inline(always)]
fn everywhere<I: Isa, F: Fold, const SPREAD: bool>(i: I, across: &Across<'_, '_>) -> F::State<I> {
    let (mut scratch, mut packed) = (Scratch::new(), F::packed());
    let folded = fold_across::<I, F, SPREAD, false>(i, across, &mut scratch, &mut []);
    for place in 0..LANES {
        F::pack::<I, SPREAD, false>(i, &folded.state, place, &mut packed);
    }
    merged::<I, F, SPREAD, false>(i, across.rows.prepared, &packed)
}
