//! Targets into coefficients, and the label of a row. Twin: `shaders/targets.wgsl`.

use crate::batch::{TargetSlice, Window};
use crate::layout::IGNORED;
use crate::loss::Prepared;

/// The targets of one row.
#[derive(Debug, Clone, Copy)]
pub(super) enum RowTargets<'a> {
    Class(usize),
    Dense(&'a [f32]),
}

/// A row's label, and whether its targets are finite.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowLabel {
    pub class: usize,
    pub finite: bool,
}

impl<'a> RowTargets<'a> {
    /// The row's targets; `None` where it is ignored.
    #[inline(always)]
    pub(super) fn of(window: &Window<'a>, row: usize) -> Option<Self> {
        match window.targets {
            TargetSlice::Classes(labels) => (labels[row] != IGNORED).then_some(Self::Class(labels[row] as usize)),
            TargetSlice::Dense(targets) => Some(Self::Dense(&targets[row * window.classes..][..window.classes])),
        }
    }

    /// The label of a dense target is its first maximum.
    #[inline(always)]
    pub(super) fn label(self) -> RowLabel {
        match self {
            Self::Class(class) => RowLabel { class, finite: true },
            Self::Dense(targets) => {
                let mut label = RowLabel { class: 0, finite: true };
                let mut best = f32::NEG_INFINITY;
                for (class, &t) in targets.iter().enumerate() {
                    label.finite &= t.is_finite();
                    if t > best {
                        (label.class, best) = (class, t);
                    }
                }
                label
            }
        }
    }

    /// The target of a class as given. One that is not finite makes the row NaN in the end; until then it counts as 0, so
    /// that it does not disturb other lanes.
    #[inline(always)]
    pub(super) fn given(self, class: usize) -> f32 {
        match self {
            Self::Class(label) => f32::from(u8::from(label == class)),
            Self::Dense(targets) => {
                if targets[class].is_finite() {
                    targets[class]
                } else {
                    0.0
                }
            }
        }
    }

    /// The target of a class, whatever it is.
    pub(super) fn raw(self, class: usize) -> f32 {
        match self {
            Self::Class(_) => self.given(class),
            Self::Dense(targets) => targets[class],
        }
    }

    /// Class weight times smoothed target.
    #[inline(always)]
    pub(super) fn coefficient(self, prepared: &Prepared, class: usize) -> f32 {
        let smoothed = self.given(class) * prepared.keep + prepared.spread;
        match &prepared.class_weights {
            Some(weights) => smoothed * weights[class],
            None => smoothed,
        }
    }
}
