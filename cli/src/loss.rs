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
        Some((option, _)) => Err(Failure::Usage(format!("{option} is for the categorical loss alone"))),
    }
}

/// A loss in words, with the options that are not at their defaults.
pub(crate) fn described(loss: &Loss) -> String {
    let of = |input| match input {
        Input::Logits => "logits",
        Input::LogProbabilities => "log-probabilities",
        _ => "probabilities",
    };
    let option = |name: &str, value: f64, default: f64| (value != default).then(|| format!("{name} {value}"));
    let (name, options) = match loss {
        Loss::Categorical(loss) => {
            let name = if loss.focal.is_some() { "Focal" } else { "Categorical" };
            let options = vec![
                loss.focal.map(|focal| format!("γ {}, α {}", focal.gamma, focal.alpha)),
                option("label smoothing", loss.label_smoothing, 0.0),
                option("ε", loss.epsilon, xent::DEFAULT_EPSILON),
                loss.poly_epsilon.map(|epsilon| format!("poly ε {epsilon}")),
                option("z-loss", loss.z_loss, 0.0),
                option("temperature", loss.temperature, 1.0),
                loss.softcap.map(|cap| format!("softcap {cap}")),
                loss.ignore_index.map(|index| format!("ignored index {index}")),
                loss.class_weights.as_ref().map(|_| "class weights".into()),
            ];
            (format!("{name} cross-entropy of {}", of(loss.input)), options)
        }
        Loss::Binary(loss) => {
            let options =
                vec![option("label smoothing", loss.label_smoothing, 0.0), option("ε", loss.epsilon, xent::DEFAULT_EPSILON)];
            (format!("Binary cross-entropy of {}", of(loss.input)), options)
        }
        Loss::KlDivergence(loss) => {
            ("Kullback-Leibler divergence".into(), vec![option("ε", loss.epsilon, xent::DEFAULT_EPSILON)])
        }
        _ => ("Loss".into(), Vec::new()),
    };
    std::iter::once(name).chain(options.into_iter().flatten()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_in_words_has_what_is_not_as_usual() {
        assert_eq!(described(&CategoricalCrossEntropy::default().into()), "Categorical cross-entropy of probabilities");
        let loss = CategoricalCrossEntropy {
            input: Input::Logits,
            focal: Some(Focal { gamma: 2.0, alpha: 0.25 }),
            softcap: Some(30.0),
            ..Default::default()
        };
        assert_eq!(described(&loss.into()), "Focal cross-entropy of logits, γ 2, α 0.25, softcap 30");
        let loss = KlDivergence { epsilon: 1e-6 };
        assert_eq!(described(&loss.into()), "Kullback-Leibler divergence, ε 0.000001");
    }
}
