//! The predictions of two models for 899 handwritten digits, and what Keras and scikit-learn say of them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::arrays::{Array, read_npy};
use super::oracle::{Extra, Input, Problem, Targets};
use super::program::Folder;

pub const ROWS: usize = 899;
pub const CLASSES: usize = 10;
pub const MODELS: [&str; 2] = ["logistic", "network"];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(example(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// An array of the example.
pub fn array(name: &str) -> Array {
    read_npy(&bytes(name)).1
}

/// A folder with all arrays of the example.
pub fn folder() -> Folder {
    let folder = Folder::new();
    for name in ["labels.npy", "onehot.npy"] {
        folder.put(name, &bytes(name));
    }
    for model in MODELS {
        for kind in ["logits", "probabilities"] {
            let name = format!("{model}_{kind}.npy");
            folder.put(&name, &bytes(&name));
        }
    }
    folder
}

/// What is known of a model.
pub fn expected(model: &str) -> Value {
    let all: Value = serde_json::from_slice(&bytes("expected.json")).unwrap();
    all["models"][model].clone()
}

/// A question to the oracle about predictions of the example's shape, with default options.
pub fn problem(input: Input, predictions: &Array) -> Problem {
    let labels = array("labels.npy").values;
    Problem {
        input,
        rows: ROWS,
        classes: CLASSES,
        predictions: predictions.floats(),
        targets: Targets::Classes(labels.iter().map(|&label| label as i64).collect()),
        label_smoothing: 0.0,
        epsilon: 1e-7,
        ignore_index: None,
        class_weights: None,
        sample_weights: None,
        extra: Extra::default(),
    }
}
