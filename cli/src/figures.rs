//! Numbers for people: short, with enough digits to follow the sum.

/// For a column: four places, or three digits where four places would be zeros or say too much. Whole numbers stay whole.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return format!("{value}");
    }
    // Nothing, and not less than nothing.
    if value == 0.0 {
        return "0".into();
    }
    if value.fract() == 0.0 && size < 1e6 {
        return format!("{value}");
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let short = format!("{value:.4}");
    // Clipping near 1 must show.
    if short.trim_start_matches('-') == "1.0000" { format!("{}", value as f32) } else { short }
}

/// For a sentence: the same without the zeros at the end.
pub(crate) fn brief(value: f64) -> String {
    let text = figure(value);
    let (number, exponent) = text.split_once('e').map_or((text.as_str(), None), |(number, power)| (number, Some(power)));
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    exponent.map_or_else(|| number.to_owned(), |power| format!("{number}e{power}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_four_places_or_three_digits() {
        let cases = [
            (0.804_668_5, "0.8047"),
            (0.5, "0.5000"),
            (1.0, "1"),
            (-0.0, "0"),
            (-3.0, "-3"),
            (1e-7, "1.00e-7"),
            (1.234_56e8, "1.23e8"),
            (f64::from(0.999_999_9_f32), "0.9999999"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in cases {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn sentences_have_no_zeros_at_the_end() {
        assert_eq!(brief(1.99), "1.99");
        assert_eq!(brief(1e-11), "1e-11");
        assert_eq!(brief(1.5e-7), "1.5e-7");
        assert_eq!(brief(10.0), "10");
        assert_eq!(brief(f64::NAN), "NaN");
    }
}
