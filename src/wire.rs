//! Sums of losses as serde has them. Where a format is for people, as JSON is, it may have no NaN and no infinity: there they are the
//! words "nan", "inf" and "-inf".

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number, or the word for what is none.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Word(Word),
}

#[derive(Serialize, Deserialize)]
enum Word {
    #[serde(rename = "nan")]
    Nan,
    #[serde(rename = "inf")]
    Infinity,
    #[serde(rename = "-inf")]
    MinusInfinity,
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Finite(value)
        } else if value.is_nan() {
            Self::Word(Word::Nan)
        } else {
            Self::Word(if value > 0.0 { Word::Infinity } else { Word::MinusInfinity })
        }
    }
}

impl From<Number> for f64 {
    fn from(number: Number) -> Self {
        match number {
            Number::Finite(value) => value,
            Number::Word(Word::Nan) => Self::NAN,
            Number::Word(Word::Infinity) => Self::INFINITY,
            Number::Word(Word::MinusInfinity) => Self::NEG_INFINITY,
        }
    }
}

/// For a field that is a number.
pub(crate) mod number {
    use super::{Deserialize, Deserializer, Number, Serialize, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { Number::from(*value).serialize(to) } else { value.serialize(to) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        if from.is_human_readable() { Number::deserialize(from).map(f64::from) } else { f64::deserialize(from) }
    }
}

/// For a field that may be a number.
pub(crate) mod optional {
    use super::{Deserialize, Deserializer, Number, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde passes fields so")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { value.map(Number::from).serialize(to) } else { value.serialize(to) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        if from.is_human_readable() {
            Ok(Option::<Number>::deserialize(from)?.map(f64::from))
        } else {
            Option::deserialize(from)
        }
    }
}
