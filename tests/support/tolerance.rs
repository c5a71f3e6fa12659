//! How far a result may lie from the truth: every bound has its name here, and [`self_check`] shows that the comparisons
//! refuse what they should.

/// What a row's loss promises, relative to the sum of its terms' sizes.
pub const ROW: f64 = 1e-6;
/// Below this a loss is small: float32 can say less about it.
pub const SMALL_LOSS: f64 = 1e-5;
/// What a small loss promises instead of [`ROW`].
pub const SMALL_ROW: f64 = 4e-6;
/// What a row's loss promises where temperature or softcap move the logits.
pub const MOVED_ROW: f64 = 4e-6;
/// The same of a softcap, times the cap, where that is more: differences of logits next to the cap are no better than these.
pub const SOFTCAP_ROW: f64 = 2e-7;
/// What an element of a gradient promises, relative to itself.
pub const GRADIENT: f64 = 2e-5;
/// Added to that: so much of the largest element of its row; where targets are class indices, of the largest but one. There the
/// label's element may be the weight of the whole row, and what is left of a thousand others would be lost in its bound.
pub const GRADIENT_ROW: f64 = 3e-6;
/// Added to that: elements below it may be flushed to 0.
pub const GRADIENT_FLUSHED: f64 = 1e-30;
/// What a logsumexp promises, relative to itself, and added to that.
pub const LOGSUMEXP: f64 = 2e-6;
/// What perplexity, entropy, Brier score and calibration errors promise, relative to themselves.
pub const METRIC: f64 = 2e-5;
/// Added to that.
pub const SMALL_METRIC: f64 = 2e-6;
/// Added to a row's bound: the smallest normal float32, 2^-126, below which a GPU may flush to 0.
pub const FLUSHED: f64 = f32::MIN_POSITIVE as f64;
/// What a total (a sum, a mean, a weight) promises, relative to itself.
pub const TOTAL: f64 = 1e-6;
/// What a total below [`SMALL_LOSS`] promises: it may consist of small losses only.
pub const SMALL_TOTAL: f64 = 4e-6;
/// Added to a total's bound: some ten million rows, each off by [`FLUSHED`].
pub const FLUSHED_TOTAL: f64 = 1e-31;

/// How far a row's loss may lie from `truth_loss` when the sizes of its terms sum to `terms`.
pub fn row_bound(truth_loss: f64, terms: f64) -> f64 {
    row_bound_of(truth_loss, terms, false)
}

/// [`row_bound`], where the logits may be `moved` by temperature or softcap.
pub fn row_bound_of(truth_loss: f64, terms: f64, moved: bool) -> f64 {
    let size = truth_loss.abs();
    let relative = match (moved, size < SMALL_LOSS) {
        (true, _) => MOVED_ROW,
        (false, true) => SMALL_ROW,
        (false, false) => ROW,
    };
    relative * size.max(terms) + FLUSHED
}

/// How far a total may lie from `truth`.
pub fn total_bound(truth: f64) -> f64 {
    let size = truth.abs();
    let relative = if size < SMALL_LOSS { SMALL_TOTAL } else { TOTAL };
    relative * size + FLUSHED_TOTAL
}

/// Says what is wrong with a row's loss, if anything is. NaN meets NaN, an infinity the same infinity; a truth that the
/// bound carries past float32's range is met by infinity too.
///
/// # Errors
/// When `got` is farther from `want` than [`row_bound`] allows.
pub fn check_row(got: f32, want: f64, terms: f64) -> Result<(), String> {
    check_row_of(got, want, terms, false)
}

/// [`check_row`], where the logits may be `moved` by temperature or softcap.
///
/// # Errors
/// When `got` is farther from `want` than [`row_bound_of`] allows.
pub fn check_row_of(got: f32, want: f64, terms: f64, moved: bool) -> Result<(), String> {
    if want.is_finite() && !terms.is_finite() {
        return Err(format!("terms {terms:e} would excuse everything"));
    }
    let bound = row_bound_of(want, terms, moved);
    let beyond_float32 = want.is_finite() && want.abs() + bound > f64::from(f32::MAX);
    if beyond_float32 && got.is_infinite() && got.is_sign_positive() == want.is_sign_positive() {
        return Ok(());
    }
    check(f64::from(got), want, bound)
}

/// Says what is wrong with a total, if anything is; NaN and infinities as in [`check_row`].
///
/// # Errors
/// When `got` is farther from `want` than [`total_bound`] allows.
pub fn check_total(got: f64, want: f64) -> Result<(), String> {
    check(got, want, total_bound(want))
}

/// Says what is wrong with a gradient of rows of so many classes, whose targets are class indices or `dense`, if anything.
///
/// # Errors
/// With the row, the class and both numbers.
pub fn check_gradient(got: &[f32], want: &[f64], classes: usize, dense: bool) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} elements of a gradient of {}", got.len(), want.len()));
    }
    let rows = got.chunks(classes.max(1)).zip(want.chunks(classes.max(1)));
    for (row, (got, want)) in rows.enumerate() {
        let measure = row_measure(want, dense);
        for (class, (got, want)) in got.iter().zip(want).enumerate() {
            let bound = GRADIENT * want.abs() + GRADIENT_ROW * measure + GRADIENT_FLUSHED;
            check(f64::from(*got), *want, bound)
                .map_err(|why| format!("gradient of row {row}, class {class} (measured by {measure:e}): {why}"))?;
        }
    }
    Ok(())
}

/// What [`GRADIENT_ROW`] is a part of.
fn row_measure(want: &[f64], dense: bool) -> f64 {
    let (mut first, mut second) = (0.0_f64, 0.0_f64);
    for size in want.iter().map(|want| want.abs()).filter(|size| size.is_finite()) {
        (first, second) = (first.max(size), second.max(size.min(first)));
    }
    if dense || want.len() == 1 { first } else { second }
}

/// Says what is wrong with a logsumexp, if anything.
///
/// # Errors
/// When it is too far from `want`.
pub fn check_logsumexp(got: f32, want: f64) -> Result<(), String> {
    check(f64::from(got), want, LOGSUMEXP * want.abs() + LOGSUMEXP)
}

/// Says what is wrong with a perplexity, entropy, Brier score or calibration error, if anything.
///
/// # Errors
/// When it is too far from `want`.
pub fn check_metric(got: f64, want: f64) -> Result<(), String> {
    check(got, want, METRIC * want.abs() + SMALL_METRIC)
}

/// [`check_row`] that panics.
///
/// # Panics
/// When the loss is refused, with `context` in the message.
#[track_caller]
pub fn assert_row(context: &str, got: f32, want: f64, terms: f64) {
    if let Err(why) = check_row(got, want, terms) {
        panic!("{context}: {why}");
    }
}

/// [`check_total`] that panics.
///
/// # Panics
/// When the total is refused, with `context` in the message.
#[track_caller]
pub fn assert_total(context: &str, got: f64, want: f64) {
    if let Err(why) = check_total(got, want) {
        panic!("{context}: {why}");
    }
}

/// Equal within `bound`, where NaN equals NaN and an infinity only itself.
///
/// # Errors
/// When they are not.
pub fn check(got: f64, want: f64, bound: f64) -> Result<(), String> {
    let agree = if want.is_finite() && got.is_finite() {
        (got - want).abs() <= bound
    } else {
        got == want || (got.is_nan() && want.is_nan())
    };
    if agree {
        return Ok(());
    }
    let how_far = if want.is_finite() && got.is_finite() {
        let times = (got - want).abs() / bound;
        format!(": off by {times:.3} times the bound {bound:e}")
    } else {
        String::new()
    };
    Err(format!("got {got:e}, want {want:e}{how_far}"))
}

/// Shows that the comparisons above are as strict as they say.
///
/// # Panics
/// When one accepts what it should refuse, or the other way round.
pub fn self_check() {
    rows_are_strict();
    totals_are_strict();
    gradients_are_strict();
    special_values_meet_only_themselves();
}

fn rows_are_strict() {
    // (loss, terms, relative part of the bound): ordinary, small on both sides of the border, cancelled, subnormal, zero.
    let cases = [
        (0.8, 0.8, 1e-6),
        (20000.0, 20000.0, 1e-6),
        (1.01e-5, 1.01e-5, 1e-6),
        (0.99e-5, 0.99e-5, 4e-6),
        (1e-13, 1e-13, 4e-6),
        (0.25, 8.0, 1e-6),
        (-0.25, 8.0, 1e-6),
        (-0.25, 0.0, 1e-6),
        (1e-39, 1e-39, 4e-6),
        (0.0, 0.0, 4e-6),
    ];
    for (want, terms, relative) in cases {
        let scale = f64::max(terms, f64::abs(want));
        // Written out rather than taken from row_bound, which a slip would otherwise loosen on both sides.
        let bound: f64 = relative * scale + 2f64.powi(-126);
        for side in [-1.0, 1.0] {
            let at = |times: f64| (want + side * times * bound) as f32;
            assert!(check_row(at(0.0), want, terms).is_ok(), "refused {want:e} itself");
            assert!(check_row(at(0.9), want, terms).is_ok(), "refused {want:e} off by 0.9 bounds");
            assert!(check_row(at(1.1), want, terms).is_err(), "accepted {want:e} off by 1.1 bounds");
        }
    }
    assert!(check_row(5.0, 1.0, f64::INFINITY).is_err(), "infinite terms excused everything");
    assert!(check_row(5.0, 1.0, f64::NAN).is_err(), "NaN terms excused everything");
}

fn totals_are_strict() {
    let cases = [(3.0, 1e-6), (-3.0, 1e-6), (1e9, 1e-6), (1e-7, 4e-6), (1e-20, 4e-6), (0.0, 1.0)];
    for (want, relative) in cases {
        let bound = relative * f64::abs(want) + 1e-31;
        for side in [-1.0, 1.0] {
            assert!(check_total(want + side * 0.9 * bound, want).is_ok(), "refused the total {want:e} off by 0.9 bounds");
            assert!(check_total(want + side * 1.1 * bound, want).is_err(), "accepted the total {want:e} off by 1.1 bounds");
        }
    }
}

fn gradients_are_strict() {
    // The label's element is the last.
    let want = [1e-5, -2e-5, 0.99997];
    let verdict = |moved: f64, dense: bool| {
        let got = [(want[0] + moved) as f32, want[1] as f32, want[2] as f32];
        check_gradient(&got, &want, 3, dense)
    };
    for side in [-1.0, 1.0] {
        assert!(verdict(side * 2.3e-10, false).is_ok() && verdict(side * 2.9e-6, true).is_ok());
        assert!(verdict(side * 2.9e-10, false).is_err() && verdict(side * 3.1e-6, true).is_err());
    }
    assert!(check_gradient(&[1.0], &[0.0], 1, false).is_err() && check_gradient(&[], &[0.0], 1, false).is_err());
}

fn special_values_meet_only_themselves() {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0];
    for (i, got) in specials.into_iter().enumerate() {
        for (j, want) in specials.into_iter().map(f64::from).enumerate() {
            // The truth's terms are NaN or infinite where its loss is.
            for terms in [want.abs(), 1.0].into_iter().filter(|terms| *terms == 1.0 || j < 3) {
                assert_eq!(check_row(got, want, terms).is_ok(), i == j, "row: got {got}, want {want}, terms {terms}");
            }
            assert_eq!(check_total(f64::from(got), want).is_ok(), i == j, "total: got {got}, want {want}");
        }
    }
    assert!(check_row(f32::INFINITY, 1e39, 1e39).is_ok());
    assert!(check_row(f32::NEG_INFINITY, -1e39, 1e39).is_ok());
    assert!(check_row(f32::NEG_INFINITY, 1e39, 1e39).is_err());
    assert!(check_row(f32::MAX, 1e39, 1e39).is_err());
    assert!(check_row(f32::INFINITY, 3.4e38, 3.4e38).is_err());
    assert!(check_row(f32::MAX, f64::from(f32::MAX), f64::from(f32::MAX)).is_ok());
    assert!(check_row(-0.0, 0.0, 0.0).is_ok());
}
