//! The rules that acted on a row, a sentence each, with its numbers.

use xent::{CategoricalCrossEntropy, ClassStep, Loss};

use super::{Kind, Story};
use crate::figures::brief;

/// How far from 1 a row may sum that a float32 softmax wrote: a few units of its last place.
const ROUNDING: f64 = 1e-6;
/// Classes that are named one by one before the others are counted.
const NAMED: usize = 3;

pub(super) fn sums_to_one(total: f64) -> bool {
    (total - 1.0).abs() <= ROUNDING
}

/// The rules that acted on the row, in the order in which they act.
pub(super) fn sentences(story: &Story<'_>) -> Vec<String> {
    if story.why.ignored {
        let index = story.index.map(|index| format!(": its label {index} is the ignored index")).unwrap_or_default();
        return vec![format!("the row is ignored{index}, so its loss is 0 and it does not count")];
    }
    let mut rules = entries(story);
    rules.extend(moves(story));
    rules.extend(normalisation(story));
    rules.extend(clipping(story));
    rules.extend(targets(story));
    rules.extend(terms(story));
    rules
}

/// A sentence about each of these classes, the label first; where there are many, about the first, and a count of the others.
fn each(
    story: &Story<'_>,
    is_one: impl Fn(&ClassStep) -> bool,
    sentence: impl Fn(&ClassStep) -> String,
    others: [&str; 2],
) -> Vec<String> {
    let mut found: Vec<&ClassStep> = story.why.steps.iter().filter(|step| is_one(step)).collect();
    found.sort_by_key(|step| story.label != Some(step.class));
    let mut rules: Vec<String> = found.iter().take(NAMED).map(|step| sentence(step)).collect();
    match found.len().saturating_sub(NAMED) {
        0 => {}
        1 => rules.push(format!("1 more class {}", others[0])),
        more => rules.push(format!("{more} more classes {}", others[1])),
    }
    rules
}

/// Predictions and targets that are no numbers, or none that a loss can be made of.
fn entries(story: &Story<'_>) -> Vec<String> {
    let mut rules = Vec::new();
    let lost = |step: &ClassStep| format!("class {} is {}, so the loss is NaN", step.class, brief(step.given.into()));
    let alike = ["makes it NaN as well", "make it NaN as well"];
    match story.kind {
        Kind::Probabilities | Kind::BinaryProbabilities | Kind::KlDivergence => {
            rules.extend(each(story, |step| !step.given.is_finite(), lost, alike));
        }
        Kind::Logits | Kind::BinaryLogits => {
            let is_lost = |step: &ClassStep| step.given.is_nan() || step.given == f32::INFINITY;
            rules.extend(each(story, is_lost, lost, alike));
            let is_masked = |step: &ClassStep| step.given == f32::NEG_INFINITY;
            if story.kind == Kind::Logits && story.why.steps.iter().all(is_masked) {
                rules.push("every class is masked (-inf): there is no softmax, so the loss is NaN".into());
            } else {
                rules.extend(masks(story));
            }
        }
        Kind::LogProbabilities => {
            let counts = |step: &ClassStep| !step.given.is_finite() && step.coefficient != 0.0;
            let sentence = |step: &ClassStep| {
                let [given, loss] = [step.given, story.why.loss].map(|value| brief(value.into()));
                format!("class {} is {given}, so the loss is {loss}", step.class)
            };
            rules.extend(each(story, counts, sentence, ["is not finite either", "are not finite either"]));
        }
    }
    let sentence =
        |step: &ClassStep| format!("the target of class {} is {}, so the loss is NaN", step.class, brief(step.target.into()));
    rules.extend(each(
        story,
        |step| !step.target.is_finite(),
        sentence,
        ["has such a target as well", "have such a target as well"],
    ));
    rules
}

fn masks(story: &Story<'_>) -> Vec<String> {
    let sentence = |step: &ClassStep| {
        let so = if step.coefficient == 0.0 { "" } else { "; it has a target, so the loss is infinite" };
        format!("class {} is masked (-inf), so its probability is 0{so}", step.class)
    };
    each(story, |step| step.given == f32::NEG_INFINITY, sentence, ["is masked as well", "are masked as well"])
}

/// Temperature and softcap.
fn moves(story: &Story<'_>) -> Vec<String> {
    let Loss::Categorical(loss) = story.loss else { return Vec::new() };
    let mut rules = Vec::new();
    if loss.temperature != 1.0 {
        rules.push(format!("temperature {}: each logit is divided by it", brief(loss.temperature)));
    }
    if let Some(softcap) = loss.softcap {
        let softcap = brief(softcap);
        rules.push(format!("softcap {softcap}: each logit x becomes {softcap} × tanh(x ÷ {softcap})"));
    }
    rules
}

/// The division by the sum, and what the loss would be without it.
fn normalisation(story: &Story<'_>) -> Vec<String> {
    let Some(total) = story.why.normaliser.filter(|_| story.kind == Kind::Probabilities) else { return Vec::new() };
    if total == 0.0 {
        return vec!["the row sums to 0: there is nothing to divide by, so the loss is NaN".into()];
    }
    if sums_to_one(total) || !total.is_finite() {
        return Vec::new();
    }
    let sum = brief(total);
    let mut rules = vec![format!("the row sums to {sum}, so each entry is divided by it")];
    if let Some(step) = story.label.map(|label| &story.why.steps[label])
        && step.given > 0.0
    {
        let [given, raw, p] = [f64::from(step.given), -f64::from(step.given).ln(), step.probability.into()].map(brief);
        // What is clipped next has another logarithm.
        let log = if step.is_clipped { String::new() } else { format!(", and −log {p} = {}", brief(-f64::from(step.log))) };
        let class = step.class;
        rules.push(format!(
            "−log of class {class} as given would be −log {given} = {raw}, but {given} is no probability until it is divided \
             by the sum: {given} ÷ {sum} = {p}{log}"
        ));
    }
    rules
}

fn clipping(story: &Story<'_>) -> Vec<String> {
    if story.why.normaliser.is_some_and(|total| total == 0.0 || !total.is_finite()) {
        return Vec::new();
    }
    let sentence = |step: &ClassStep| {
        let [before, after] = [step.probability, step.clipped].map(|p| brief(p.into()));
        format!("class {} is clipped from {before} to {after}", step.class)
    };
    let mut rules = each(story, |step| step.is_clipped, sentence, ["is clipped as well", "are clipped as well"]);
    let is_clipped = |step: &ClassStep| !step.clipped_target.is_nan() && step.clipped_target != step.target;
    let sentence = |step: &ClassStep| {
        let [target, clipped] = [step.target, step.clipped_target].map(|target| brief(target.into()));
        format!("the target of class {} is clipped from {target} to {clipped}", step.class)
    };
    rules.extend(each(
        story,
        is_clipped,
        sentence,
        ["has a target that is clipped as well", "have a target that is clipped as well"],
    ));
    rules
}

/// What makes coefficients of targets.
fn targets(story: &Story<'_>) -> Vec<String> {
    let mut rules = Vec::new();
    let classes = story.why.steps.len() as f64;
    let (smoothing, parts) = match story.loss {
        Loss::Categorical(loss) => (loss.label_smoothing, classes),
        Loss::Binary(loss) => (loss.label_smoothing, 2.0),
        _ => (0.0, 1.0),
    };
    if smoothing != 0.0 {
        let [alpha, keep, spread] = [smoothing, 1.0 - smoothing, smoothing / parts].map(brief);
        rules.push(format!("label smoothing {alpha}: each target t counts as {keep} × t + {spread}"));
    }
    if let Loss::Categorical(CategoricalCrossEntropy { class_weights: Some(weights), .. }) = story.loss {
        let spread = smoothing != 0.0 || story.index.is_none();
        if spread && weights.iter().any(|&weight| weight != 1.0) {
            rules.push("class weights: each target is multiplied with the weight of its class".into());
        }
        if let Some((label, &weight)) = story.label.and_then(|label| Some((label, weights.get(label)?)))
            && weight != 1.0
        {
            rules.push(format!("class {label} has the weight {}", brief(weight.into())));
        }
    }
    rules
}

/// What terms are, where they are not −coefficient × log, and what is made of their sum.
fn terms(story: &Story<'_>) -> Vec<String> {
    let mut rules = Vec::new();
    if let Loss::Categorical(loss) = story.loss {
        let label = story.label.map(|label| &story.why.steps[label]);
        if let Some(focal) = loss.focal {
            let [alpha, gamma] = [focal.alpha, focal.gamma].map(brief);
            rules.push(format!(
                "focal loss: each term is multiplied with {alpha} × (1 − p)^{gamma}{}",
                label.map_or_else(String::new, |step| {
                    // 1 − p from the logarithm, which near 1 has the digits that p has not.
                    let factor = focal.alpha * (-f64::from(step.log).exp_m1()).powf(focal.gamma);
                    format!(", for class {} with {}", step.class, brief(factor))
                },)
            ));
        }
        if let Some(poly) = loss.poly_epsilon.filter(|&poly| poly != 0.0) {
            let gained = label.map_or_else(String::new, |step| {
                let gain = poly * (1.0 - f64::from(step.clipped));
                format!(", for class {} {}", step.class, brief(gain))
            });
            rules.push(format!("poly-1 loss: {} × (1 − p) is added to −log p{gained}", brief(poly)));
        }
        if loss.z_loss != 0.0
            && let Some(logsumexp) = story.why.normaliser
        {
            let [factor, sum, extra] = [loss.z_loss, logsumexp, story.why.extra].map(brief);
            rules.push(format!("z-loss: {factor} × logsumexp² = {factor} × {sum}² = {extra} is added"));
        }
    }
    if matches!(story.loss, Loss::Binary(_)) {
        let classes = story.why.steps.len();
        rules.push(format!("the loss is the mean of the terms over {classes} classes"));
    }
    rules
}
