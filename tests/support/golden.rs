//! Cases that other libraries answered: `tests/golden/*.json`, described in the README beside them.

use serde_json::Value;

use super::arrays::Element;
use super::oracle::{Extra, Input, Kind, Problem, Targets};

/// One golden case.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Its name, unique within the family.
    pub id: String,
    /// The shape of the predictions as stored.
    pub shape: Vec<usize>,
    /// Where the classes stand in `shape`.
    pub axis: usize,
    /// What is asked, with the class axis moved to the end.
    pub problem: Problem,
    /// How the predictions are stored.
    pub element: Element,
    /// The predictions as stored, in `shape`.
    pub raw_predictions: Vec<f32>,
    /// The shape of the targets as stored.
    pub targets_shape: Vec<usize>,
    /// The targets as stored, in `targets_shape`.
    pub raw_targets: Targets,
    /// The answer.
    pub expect: Expect,
    /// Whether `expect.mean` is `PyTorch`'s, which is called the weighted mean here.
    pub torch_mean: bool,
    /// Over how many bins the calibration errors are.
    pub bins: Option<u32>,
}

/// What a case says of the answer; what it does not say is `None` or empty.
#[derive(Clone, Debug)]
pub struct Expect {
    /// One a row, before sample weights.
    pub losses: Option<Vec<f64>>,
    /// Σ|terms| of each row.
    pub terms: Option<Vec<f64>>,
    /// Of losses times weights.
    pub sum: Option<f64>,
    /// The weighted mean where [`Golden::torch_mean`] says so. `None` also where nothing is kept and `PyTorch` divides 0
    /// by 0, for which the definition here is 0.
    pub mean: Option<f64>,
    /// The sum over the weight.
    pub weighted_mean: Option<f64>,
    /// The sum of the weights.
    pub weight: Option<f64>,
    /// Rows that are not ignored.
    pub kept: Option<u64>,
    /// The share of correct rows.
    pub accuracy: Option<f64>,
    /// The gradient in the predictions' shape, of the mean where `gradient_of_mean` says so, else of the sum.
    pub gradient: Option<Vec<f64>>,
    /// Whether `gradient` is of `mean`.
    pub gradient_of_mean: bool,
    /// One a row.
    pub logsumexp: Option<Vec<f64>>,
    /// e to the mean plain cross-entropy.
    pub perplexity: Option<f64>,
    /// The mean entropy.
    pub entropy: Option<f64>,
    /// The mean Brier score.
    pub brier: Option<f64>,
    /// The expected calibration error.
    pub ece: Option<f64>,
    /// The maximum calibration error.
    pub mce: Option<f64>,
    /// k and the share of rows whose label is among the k best, by increasing k.
    pub top_k: Vec<(u64, f64)>,
}

/// Each family with the text of its file: a browser has no files, and tests may run where the sources are not.
macro_rules! with_text {
    ($($name:literal),*) => { [$(($name, include_str!(concat!("../golden/", $name, ".json")))),*] };
}

const FAMILIES: [(&str, &str); 12] = with_text![
    "calibration",
    "confident",
    "half_precision",
    "keras_categorical",
    "keras_edges",
    "keras_others",
    "keras_reductions",
    "keras_sparse",
    "language_model",
    "nd_axis",
    "torch_cross_entropy",
    "torch_soft_targets"
];

/// All cases of `tests/golden/{name}.json`.
///
/// # Panics
/// When there is no such family, or a case holds something that this loader does not know: a case half understood would
/// test something else than it says.
pub fn family(name: &str) -> Vec<Golden> {
    let (_, text) = FAMILIES.iter().find(|(family, _)| *family == name).unwrap_or_else(|| panic!("{name}: no such family"));
    let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let cases: Vec<Golden> = array(&json["cases"], "cases").iter().map(case).collect();
    assert!(!cases.is_empty(), "{name}: no case");
    cases
}

fn case(json: &Value) -> Golden {
    let id = json["id"].as_str().expect("a case has an id").to_owned();
    let options = Options::of(&json["options"], &id);
    let loss = json["loss"].as_str().expect("a case names its loss");
    let kind = match loss {
        "binary_crossentropy" => Kind::Binary,
        "kl_divergence" => Kind::KlDivergence,
        "categorical_crossentropy"
        | "sparse_categorical_crossentropy"
        | "cross_entropy"
        | "cross_entropy_soft"
        | "nll"
        | "categorical_focal_crossentropy"
        | "poly" => Kind::Categorical,
        _ => panic!("{id}: unknown loss {loss}"),
    };
    assert_eq!(loss == "categorical_focal_crossentropy", options.focal().is_some(), "{id}");
    assert_eq!(loss == "poly", options.poly_epsilon.is_some(), "{id}");

    let shape = shape(&json["predictions"], &id);
    let axis = options.axis.rem_euclid(shape.len() as i64) as usize;
    let classes = shape[axis];
    let raw_predictions = singles(&json["predictions"], &id);
    let targets_shape = self::shape(&json["targets"], &id);
    let raw_targets = if targets_shape == shape {
        Targets::Dense(singles(&json["targets"], &id))
    } else {
        let labels = array(&json["targets"]["data"], &id).iter();
        Targets::Classes(labels.map(|v| v.as_i64().expect("a label is whole")).collect())
    };
    let problem = Problem {
        input: match (loss, options.from_logits) {
            ("nll", _) => Input::LogProbabilities,
            (_, true) => Input::Logits,
            (_, false) => Input::Probabilities,
        },
        rows: shape.iter().enumerate().map(|(i, n)| if i == axis { 1 } else { *n }).product(),
        classes,
        predictions: classes_last(&raw_predictions, &shape, axis),
        targets: match &raw_targets {
            Targets::Classes(labels) => Targets::Classes(labels.clone()),
            Targets::Dense(dense) => Targets::Dense(classes_last(dense, &shape, axis)),
        },
        label_smoothing: options.label_smoothing,
        epsilon: options.epsilon,
        ignore_index: options.ignore_index,
        class_weights: json.get("class_weights").map(|weights| singles(weights, &id)),
        sample_weights: json.get("sample_weights").map(|weights| stored(weights, &id)),
        extra: Extra {
            kind,
            focal: options.focal(),
            poly_epsilon: options.poly_epsilon,
            z_loss: options.z_loss,
            temperature: options.temperature,
            softcap: options.softcap,
        },
    };
    // Soft targets are divided by the number of rows, in PyTorch too.
    let torch_mean = matches!(loss, "cross_entropy" | "nll");
    let expect = Expect::of(&json["expect"], torch_mean, &id);
    let element = match json["predictions"]["dtype"].as_str() {
        Some("float16") => Element::F16,
        Some("bfloat16") => Element::Bf16,
        _ => Element::F32,
    };
    let bins = options.bins;
    Golden { id, shape, axis, problem, element, raw_predictions, targets_shape, raw_targets, expect, torch_mean, bins }
}

/// What a case's `options` hold, with the libraries' defaults.
struct Options {
    from_logits: bool,
    label_smoothing: f64,
    epsilon: f64,
    ignore_index: Option<i64>,
    axis: i64,
    gamma: Option<f64>,
    alpha: Option<f64>,
    poly_epsilon: Option<f64>,
    z_loss: f64,
    temperature: f64,
    softcap: Option<f64>,
    bins: Option<u32>,
}

impl Options {
    fn of(json: &Value, id: &str) -> Self {
        let mut options = Self {
            from_logits: false,
            label_smoothing: 0.0,
            epsilon: 1e-7,
            ignore_index: None,
            axis: -1,
            gamma: None,
            alpha: None,
            poly_epsilon: None,
            z_loss: 0.0,
            temperature: 1.0,
            softcap: None,
            bins: None,
        };
        let given = json.as_object().expect("options are an object");
        for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
            match name.as_str() {
                "from_logits" => options.from_logits = value.as_bool().expect("a flag"),
                "label_smoothing" => options.label_smoothing = float(value, id),
                "epsilon" => options.epsilon = float(value, id),
                "ignore_index" => {
                    options.ignore_index = Some(value.as_i64().expect("a class"));
                }
                "axis" => options.axis = value.as_i64().expect("an axis"),
                "gamma" => options.gamma = Some(float(value, id)),
                "alpha" => options.alpha = Some(float(value, id)),
                "poly_epsilon" => options.poly_epsilon = Some(float(value, id)),
                "z_loss" => options.z_loss = float(value, id),
                "temperature" => options.temperature = float(value, id),
                "softcap" => options.softcap = Some(float(value, id)),
                "bins" => options.bins = Some(value.as_u64().expect("a number of bins") as u32),
                _ => panic!("{id}: unknown option {name}"),
            }
        }
        options
    }

    fn focal(&self) -> Option<(f64, f64)> {
        self.gamma.zip(self.alpha)
    }
}

impl Expect {
    fn of(json: &Value, torch_mean: bool, id: &str) -> Self {
        let number = |name: &str| json.get(name).map(|value| float(value, id));
        let numbers = |name: &str| json.get(name).map(|values| floats(values, id));
        let kept = json.get("kept").map(|kept| kept.as_u64().expect("kept counts rows"));
        let mean = number("mean").filter(|mean| !(torch_mean && kept == Some(0) && mean.is_nan()));
        let mut top_k: Vec<(u64, f64)> = json
            .get("top_k")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(k, share)| (k.parse().expect("k counts classes"), float(share, id)))
            .collect();
        // As strings, "10" comes before "3".
        top_k.sort_by_key(|(k, _)| *k);
        Self {
            losses: numbers("losses"),
            terms: numbers("terms"),
            sum: number("sum"),
            mean,
            weighted_mean: number("weighted_mean"),
            weight: number("weight"),
            kept,
            accuracy: number("accuracy"),
            gradient: numbers("gradient"),
            gradient_of_mean: match json.get("gradient_of").map(|of| of.as_str().expect("a reduction")) {
                None | Some("sum") => false,
                Some("mean") => true,
                Some(other) => panic!("{id}: a gradient of {other}"),
            },
            logsumexp: numbers("logsumexp"),
            perplexity: number("perplexity"),
            entropy: number("entropy"),
            brier: number("brier"),
            ece: number("ece"),
            mce: number("mce"),
            top_k,
        }
    }
}

/// Moves `axis` to the end: rows in the order of the remaining axes, each with its classes side by side.
fn classes_last(values: &[f32], shape: &[usize], axis: usize) -> Vec<f32> {
    let classes = shape[axis];
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let rows = (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i)));
    rows.flat_map(|(o, i)| (0..classes).map(move |c| values[(o * classes + c) * inner + i])).collect()
}

fn shape(json: &Value, id: &str) -> Vec<usize> {
    array(&json["shape"], id).iter().map(|n| n.as_u64().expect("a length") as usize).collect()
}

/// An array's values as float32; those of the half-width types are exact in it.
fn singles(json: &Value, id: &str) -> Vec<f32> {
    stored(json, id).iter().map(|value| *value as f32).collect()
}

/// An array's values as its type holds them: the shortest decimal of a float32 is another number in float64.
fn stored(json: &Value, id: &str) -> Vec<f64> {
    let values = floats(&json["data"], id);
    match json["dtype"].as_str() {
        Some("float64") => values,
        Some("float32" | "float16" | "bfloat16") => values.iter().map(|v| f64::from(*v as f32)).collect(),
        other => panic!("{id}: {other:?} is no type for these values"),
    }
}

fn floats(json: &Value, id: &str) -> Vec<f64> {
    array(json, id).iter().map(|value| float(value, id)).collect()
}

/// JSON has no NaN and no infinities; the files hold them as strings.
fn float(json: &Value, id: &str) -> f64 {
    match json {
        Value::String(name) => match name.as_str() {
            "nan" => f64::NAN,
            "inf" => f64::INFINITY,
            "-inf" => f64::NEG_INFINITY,
            _ => panic!("{id}: {name} is no number"),
        },
        _ => json.as_f64().unwrap_or_else(|| panic!("{id}: {json} is no number")),
    }
}

fn array<'a>(json: &'a Value, id: &str) -> &'a [Value] {
    json.as_array().unwrap_or_else(|| panic!("{id}: an array is missing"))
}
