//! The options of a loss, made a loss.

use xent::{BinaryCrossEntropy, CategoricalCrossEntropy, Focal, Input, KlDivergence, Loss};

use crate::args::{LossArgs, LossKind};
use crate::failure::Failure;

/// The loss that the options describe.
pub(crate) fn loss(args: &LossArgs, class_weights: Option<Vec<f32>>) -> Result<Loss, Failure> {
    let input = if args.from_logits { Input::Logits } else { args.input.into() };
    if args.loss == LossKind::Categorical {
        let focal = |gamma| Focal { gamma, alpha: args.focal_alpha.unwrap_or(Focal::default().alpha) };
        return Ok(Loss::from(CategoricalCrossEntropy {
            input,
            label_smoothing: args.label_smoothing,
            epsilon: args.epsilon,
            ignore_index: args.ignore_index,
            class_weights,
            focal: args.focal_gamma.map(focal),
            poly_epsilon: args.poly_epsilon,
            z_loss: args.z_loss.unwrap_or(0.0),
            temperature: args.temperature.unwrap_or(1.0),
            softcap: args.softcap,
        }));
    }
    categorical_only(&[
        ("--focal-gamma", args.focal_gamma.is_some()),
        ("--poly-epsilon", args.poly_epsilon.is_some()),
        ("--z-loss", args.z_loss.is_some()),
        ("--softcap", args.softcap.is_some()),
        ("--temperature", args.temperature.is_some()),
        ("--ignore-index", args.ignore_index.is_some()),
        ("--class-weights", class_weights.is_some()),
    ])?;
    if args.loss == LossKind::Binary {
        let (label_smoothing, epsilon) = (args.label_smoothing, args.epsilon);
        return Ok(Loss::from(BinaryCrossEntropy { input, label_smoothing, epsilon }));
    }
    if input != Input::Probabilities {
        return Err(Failure::Usage("the KL divergence takes probabilities".into()));
    }
    if args.label_smoothing != 0.0 {
        return Err(Failure::Usage("--label-smoothing has no meaning for the KL divergence: its targets are given".into()));
    }
    Ok(Loss::from(KlDivergence { epsilon: args.epsilon }))
}

/// Refuses the first of these options that was given: the loss is not the categorical one.
pub(crate) fn categorical_only(options: &[(&str, bool)]) -> Result<(), Failure> {
    match options.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::Usage(format!("{option} is for the categorical loss: the others know no label"))),
    }
}
