//! The table of losses: one line each. From it follow the kernels on both sides and the tests of the twins.

use super::LossTerm;
use crate::fold::plain::Plain;
use crate::fold::shares::Shares;
use crate::fold::softmax::Softmax;
use crate::fold::{Fold, FoldKind};

macro_rules! losses {
    ($($name:ident in $file:ident: $($fold:ident),+;)+) => {
        /// What a class costs: one entry for each pair of twins in `shaders/loss` and `src/loss`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum TermKind {
            $($name,)+
        }

        impl TermKind {
            /// The loss' WGSL file.
            pub(crate) fn wgsl(self) -> &'static str {
                match self {
                    $(Self::$name => include_str!(concat!("../../shaders/loss/", stringify!($file), ".wgsl")),)+
                }
            }
        }

        /// Runs `visitor` with the types of a pair of the table: [`Prepared`](super::Prepared) holds no other.
        pub(crate) fn visit<V: Visitor>(fold: FoldKind, term: TermKind, visitor: V) -> V::Output {
            match (fold, term) {
                $($((FoldKind::$fold, TermKind::$name) => visitor.visit::<$fold, super::$file::$name>(),)+)+
                (fold, term) => unreachable!("no loss is made of {fold:?} and {term:?}"),
            }
        }

        /// Every pair of a fold and a loss.
        #[cfg(test)]
        pub(crate) const PAIRS: &[(FoldKind, TermKind)] = &[$($((FoldKind::$fold, TermKind::$name),)+)+];

        /// Every loss with its Rust file.
        #[cfg(test)]
        pub(crate) const SOURCES: &[(TermKind, &str)] =
            &[$((TermKind::$name, include_str!(concat!(stringify!($file), ".rs"))),)+];
    };
}

// A loss, its file, and the folds that it can stand on.
losses! {
    Categorical in categorical: Softmax, Shares, Plain;
    Focal in focal: Softmax, Shares;
    Poly in poly: Softmax, Shares;
    BinaryLogits in binary_logits: Plain;
    BinaryProbabilities in binary_probabilities: Plain;
    KlDivergence in kl_divergence: Plain;
}

/// Work that is generic over a fold and a loss.
pub(crate) trait Visitor {
    type Output;

    /// Does the work for one pair.
    fn visit<F: Fold, T: LossTerm>(self) -> Self::Output;
}
