//! Rows into totals, in an order that only the rows' places decide: row i of the whole joins partial sum i mod 16 of its block
//! of 1,024 rows, and the blocks' sums join the totals one after the other. So windows, batches and threads may begin and
//! end anywhere, and the bits stay the same.

use crate::batch::TargetSlice;
use crate::calibration::Bins;
use crate::cpu::isa::{Instructions, Isa, LANES, Work, dispatch};
use crate::cpu::lanes::{F32s, Make};
use crate::layout::{IGNORED, RANK_FIRST, RANK_NAN};
use crate::loss::Prepared;
use crate::records::RecordsMut;
use crate::totals::Totals;

/// Rows that are summed before their sum joins the totals.
pub(crate) const BLOCK: usize = 1024;
/// Partial sums of a block, one a lane.
const PARTIALS: usize = LANES;

/// What is known of rows once a kernel has run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Results<'a> {
    pub losses: &'a [f32],
    /// None, or one a row.
    pub ranks: &'a [u32],
    /// None, or one a row: plain cross-entropy, entropy, Brier score, confidence.
    pub calibration: &'a [[f32; 4]],
    pub targets: TargetSlice<'a>,
    /// None where each is 1, or one a row.
    pub sample_weights: &'a [f64],
}

impl<'a> Results<'a> {
    pub(crate) fn of(records: &'a RecordsMut<'_>, targets: TargetSlice<'a>, sample_weights: &'a [f64]) -> Self {
        Self { losses: records.losses, ranks: records.ranks, calibration: records.calibration, targets, sample_weights }
    }
}

/// Sums over rows.
#[derive(Debug, Clone, Copy, Default)]
struct Sums<T> {
    loss: T,
    weight: T,
    plain: T,
    entropy: T,
    brier: T,
}

impl Sums<[f64; PARTIALS]> {
    /// The partial sums in pairs.
    fn total(&self) -> Sums<f64> {
        fn pairwise(mut v: [f64; PARTIALS]) -> f64 {
            for reach in [8, 4, 2, 1] {
                for p in 0..reach {
                    v[p] += v[p + reach];
                }
            }
            v[0]
        }
        Sums {
            loss: pairwise(self.loss),
            weight: pairwise(self.weight),
            plain: pairwise(self.plain),
            entropy: pairwise(self.entropy),
            brier: pairwise(self.brier),
        }
    }
}

/// What consecutive rows add up to, whatever the place where they begin.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The next row's place in the whole.
    next: u64,
    /// Of the blocks that ended among these rows.
    closed: Vec<Sums<f64>>,
    /// Of the block that has not ended.
    open: Sums<[f64; PARTIALS]>,
    rows: u64,
    kept: u64,
    non_finite: u64,
    correct: u64,
    /// For each k of the totals.
    top_k: Vec<u64>,
    bins: Bins,
}

/// Folds rows, part after part, into totals.
#[derive(Debug, Clone)]
pub(crate) struct Reducer {
    totals: Totals,
    /// Of all blocks that ended.
    sums: Sums<f64>,
    open: Sums<[f64; PARTIALS]>,
    bins: Bins,
}

impl Reducer {
    /// One that fills in what `totals` has.
    pub(crate) fn new(totals: Totals) -> Self {
        let bins = Bins::new(totals.calibration.as_ref().map_or(0, |calibration| calibration.bins.len()));
        Self { totals, sums: Sums::default(), open: Sums::default(), bins }
    }

    /// Rows seen so far.
    pub(crate) fn rows(&self) -> u64 {
        self.totals.rows
    }

    /// A part of the rows from place `next` on: the next one, or one that begins with a block.
    pub(crate) fn part(&self, next: u64) -> Part {
        Part {
            next,
            closed: Vec::new(),
            open: if next == self.totals.rows { self.open } else { Sums::default() },
            rows: 0,
            kept: 0,
            non_finite: 0,
            correct: 0,
            top_k: vec![0; self.totals.top_k.len()],
            bins: Bins::new(self.bins.len()),
        }
    }

    /// Takes in the next part.
    pub(crate) fn join(&mut self, part: &Part) {
        for block in &part.closed {
            self.sums.loss += block.loss;
            self.sums.weight += block.weight;
            self.sums.plain += block.plain;
            self.sums.entropy += block.entropy;
            self.sums.brier += block.brier;
        }
        self.open = part.open;
        self.totals.rows += part.rows;
        self.totals.kept += part.kept;
        self.totals.non_finite += part.non_finite;
        self.totals.correct += part.correct;
        for ((_, count), more) in self.totals.top_k.iter_mut().zip(&part.top_k) {
            *count += more;
        }
        self.bins.merge(&part.bins);
    }

    /// Takes in the next rows.
    pub(crate) fn push(&mut self, prepared: &Prepared, rows: &Results<'_>) {
        let mut part = self.part(self.totals.rows);
        dispatch(Instructions::best(), Push { part: &mut part, totals: &self.totals, prepared, rows });
        self.join(&part);
    }

    /// What parts have to count.
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The totals of all rows so far.
    pub(crate) fn finish(mut self) -> Totals {
        /// Which of two NaN an addition keeps, and its sign, is for the compiler to choose: one NaN stands for all.
        fn sum(a: f64, b: f64) -> f64 {
            let sum = a + b;
            if sum.is_nan() { f64::NAN } else { sum }
        }
        let open = self.open.total();
        self.totals.loss = sum(self.sums.loss, open.loss);
        self.totals.weight = sum(self.sums.weight, open.weight);
        if let Some(plain) = &mut self.totals.plain {
            *plain = sum(self.sums.plain, open.plain);
        }
        if let Some(calibration) = &mut self.totals.calibration {
            calibration.entropy = sum(self.sums.entropy, open.entropy);
            calibration.brier = sum(self.sums.brier, open.brier);
            calibration.bins = self.bins.finish();
        }
        self.totals
    }
}

/// Takes the next rows into a part.
pub(crate) struct Push<'p, 'a> {
    pub part: &'p mut Part,
    /// What is counted.
    pub totals: &'p Totals,
    pub prepared: &'p Prepared,
    pub rows: &'p Results<'a>,
}

impl Work for Push<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, i: I) {
        let Self { part, totals, prepared, rows } = self;
        let mut first = 0;
        while first < rows.losses.len() {
            let room = BLOCK - (part.next % BLOCK as u64) as usize;
            let end = rows.losses.len().min(first + room);
            part.push(i, totals, prepared, rows, first..end);
            if part.next.is_multiple_of(BLOCK as u64) {
                part.closed.push(part.open.total());
                part.open = Sums::default();
            }
            first = end;
        }
    }
}

impl Part {
    /// Takes in rows of one block.
    #[inline(always)]
    fn push<I: Isa>(&mut self, i: I, totals: &Totals, prepared: &Prepared, rows: &Results<'_>, range: std::ops::Range<usize>) {
        let count = range.len() as u64;
        let losses = &rows.losses[range.clone()];
        let labels = match rows.targets {
            TargetSlice::Classes(labels) => Some(&labels[range.clone()]),
            TargetSlice::Dense(_) => None,
        };
        let place = (self.next % PARTIALS as u64) as usize;
        let kept = |i: usize| labels.is_none_or(|labels| labels[i] != IGNORED);
        let kept_rows = labels.map_or(count, |labels| labels.iter().map(|&label| u64::from(label != IGNORED)).sum::<u64>());
        // A row that is ignored has a loss of 0.
        let weights = if rows.sample_weights.is_empty() { &[] } else { &rows.sample_weights[range.clone()] };
        self.non_finite += add_losses(i, &mut self.open.loss, place, losses, weights);
        if rows.sample_weights.is_empty() && prepared.class_weights.is_none() {
            // Whole numbers add up the same in any order.
            self.open.weight[0] += kept_rows as f64;
        } else {
            each_place(&mut self.open.weight, place, losses.len(), |i| {
                let sample_weight = rows.sample_weights.get(range.start + i).copied().unwrap_or(1.0);
                let class_weight = labels.map_or(1.0, |labels| match labels[i] {
                    IGNORED => 0.0,
                    label => prepared.class_weight(label as usize),
                });
                if kept(i) { f64::from(class_weight) * sample_weight } else { 0.0 }
            });
        }
        if totals.ranked && !rows.ranks.is_empty() {
            let ranks = &rows.ranks[range.clone()];
            // The rank of a row that does not count is no rank.
            self.correct += u64::from(ranks.iter().map(|rank| rank >> 31).sum::<u32>());
            for ((k, _), count) in totals.top_k.iter().zip(&mut self.top_k) {
                // That of a row with a NaN is above any k.
                let k = (*k).min(RANK_NAN);
                let among = |i: usize, rank: u32| u32::from((rank & !RANK_FIRST < k) & kept(i));
                *count += u64::from(ranks.iter().enumerate().map(|(i, &rank)| among(i, rank)).sum::<u32>());
            }
        }
        if !rows.calibration.is_empty() {
            let values = &rows.calibration[range.clone()];
            add_calibration(i, &mut self.open, place, values);
            if totals.calibration.is_some() {
                let ranks = &rows.ranks[range.clone()];
                for (n, (values, ranks)) in values.chunks(LANES).zip(ranks.chunks(LANES)).enumerate() {
                    let (mut confidences, mut correct, mut count) = ([0.0; LANES], [false; LANES], 0);
                    for (l, (&[.., confidence], rank)) in values.iter().zip(ranks).enumerate() {
                        // The next row takes the place of one that does not count.
                        (confidences[count], correct[count]) = (confidence, rank & RANK_FIRST != 0);
                        count += usize::from(kept(n * LANES + l));
                    }
                    self.bins.push(&confidences, &correct, count);
                }
            }
        }
        self.rows += count;
        self.kept += kept_rows;
        self.next += count;
    }
}

/// Adds losses, the first of which belongs to partial sum `place`, times their weights where there are any; says how many
/// losses are not finite.
#[inline(always)]
fn add_losses<I: Isa>(i: I, sums: &mut [f64; PARTIALS], place: usize, losses: &[f32], weights: &[f64]) -> u64 {
    let head = ((PARTIALS - place) % PARTIALS).min(losses.len());
    let (first, losses) = losses.split_at(head);
    let (first_weights, weights) = weights.split_at(head.min(weights.len()));
    let mut non_finite = add_few(&mut sums[place..], first, first_weights);
    let (registers, rest) = losses.as_chunks::<LANES>();
    let (weight_registers, rest_weights) = weights.as_chunks::<LANES>();
    let mut all = i.f64s_of(sums);
    for (n, losses) in registers.iter().enumerate() {
        let losses: F32s<I> = i.f32s_of(losses);
        let value = losses.widen();
        all = all + weight_registers.get(n).map_or(value, |weights| value * i.f64s_of(weights));
        non_finite += u64::from((!losses.is_finite(i)).bits().count_ones());
    }
    all.store(sums);
    non_finite + add_few(sums, rest, rest_weights)
}

/// [`add_losses`] of no more than there are sums.
#[inline(always)]
fn add_few(sums: &mut [f64], losses: &[f32], weights: &[f64]) -> u64 {
    let mut non_finite = 0;
    for (n, (sum, &loss)) in sums.iter_mut().zip(losses).enumerate() {
        *sum += f64::from(loss) * weights.get(n).copied().unwrap_or(1.0);
        non_finite += u64::from(!loss.is_finite());
    }
    non_finite
}

/// Adds what is known of rows' calibration, the first of which belong to partial sum `place`.
#[inline(always)]
fn add_calibration<I: Isa>(i: I, sums: &mut Sums<[f64; PARTIALS]>, place: usize, values: &[[f32; 4]]) {
    let (first, values) = values.split_at(((PARTIALS - place) % PARTIALS).min(values.len()));
    add_few_of_four(sums, place, first);
    let (registers, rest) = values.as_chunks::<LANES>();
    let (mut plain, mut entropy, mut brier) = (i.f64s_of(&sums.plain), i.f64s_of(&sums.entropy), i.f64s_of(&sums.brier));
    for rows in registers {
        let lines = rows.as_flattened().as_chunks::<LANES>().0;
        let [plains, entropies, briers, _] =
            F32s::unzipped([i.f32s_of(&lines[0]), i.f32s_of(&lines[1]), i.f32s_of(&lines[2]), i.f32s_of(&lines[3])]);
        plain = plain + plains.widen();
        entropy = entropy + entropies.widen();
        brier = brier + briers.widen();
    }
    plain.store(&mut sums.plain);
    entropy.store(&mut sums.entropy);
    brier.store(&mut sums.brier);
    add_few_of_four(sums, 0, rest);
}

/// [`add_calibration`] of no more than there are sums.
#[inline(always)]
fn add_few_of_four(sums: &mut Sums<[f64; PARTIALS]>, place: usize, values: &[[f32; 4]]) {
    for (n, &[plain, entropy, brier, _]) in (place..).zip(values) {
        sums.plain[n] += f64::from(plain);
        sums.entropy[n] += f64::from(entropy);
        sums.brier[n] += f64::from(brier);
    }
}

/// Adds `count` values, the first of which belongs to partial sum `place`.
#[inline(always)]
fn each_place(sums: &mut [f64; PARTIALS], place: usize, count: usize, value: impl Fn(usize) -> f64) {
    let head = ((PARTIALS - place) % PARTIALS).min(count);
    for i in 0..head {
        sums[place + i] += value(i);
    }
    // A copy that stays in registers.
    let mut all = *sums;
    let mut i = head;
    while i + PARTIALS <= count {
        for p in 0..PARTIALS {
            all[p] += value(i + p);
        }
        i += PARTIALS;
    }
    for p in 0..count - i {
        all[p] += value(i + p);
    }
    *sums = all;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{CategoricalCrossEntropy, Loss};

    fn prepared() -> Prepared {
        Loss::from(CategoricalCrossEntropy::default()).prepare(10, false).expect("defaults are valid")
    }

    fn results<'a>(losses: &'a [f32], ranks: &'a [u32], labels: &'a [u32]) -> Results<'a> {
        Results { losses, ranks, calibration: &[], targets: TargetSlice::Classes(labels), sample_weights: &[] }
    }

    #[test]
    fn nothing_kept_is_zero() {
        let mut reducer = Reducer::new(Totals::new(true, &[1]));
        reducer.push(&prepared(), &results(&[0.0], &[RANK_NAN], &[IGNORED]));
        let totals = reducer.finish();
        assert_eq!((totals.rows, totals.kept), (1, 0));
        assert_eq!((totals.mean(), totals.weighted_mean(), totals.accuracy()), (0.0, 0.0, Some(0.0)));
    }

    #[test]
    fn counters_pass_2_to_the_24() {
        let mut reducer = Reducer::new(Totals::new(false, &[]));
        let rows = 1 << 20;
        for _ in 0..17 {
            reducer.push(&prepared(), &results(&vec![1.0; rows], &[], &vec![0; rows]));
        }
        assert_eq!(reducer.finish().loss, 17.0 * rows as f64);
    }

    #[test]
    fn nan_has_one_form() {
        for losses in [[f32::NAN, -f32::NAN], [-f32::NAN, f32::NAN], [-f32::NAN, 1.0], [f32::INFINITY, f32::NEG_INFINITY]] {
            let mut reducer = Reducer::new(Totals::new(false, &[]));
            reducer.push(&prepared(), &results(&losses, &[], &[0; 2]));
            assert_eq!(reducer.finish().loss.to_bits(), f64::NAN.to_bits(), "{losses:?}");
        }
    }

    #[test]
    fn ranks_count_ties_at_the_boundary() {
        let mut reducer = Reducer::new(Totals::new(true, &[3, 1, 3]));
        reducer.push(&prepared(), &results(&[0.5; 5], &[RANK_FIRST, 0, 2, 3, RANK_NAN], &[0; 5]));
        let totals = reducer.finish();
        assert_eq!(totals.top_k, [(1, 2), (3, 3)]);
        assert_eq!(totals.correct, 1);
        assert_eq!(totals.top_k_accuracy(2), None);
    }

    #[test]
    fn bits_do_not_depend_on_the_cuts() {
        let losses: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.7).sin().abs() * 1e3).collect();
        let labels = vec![0; losses.len()];
        let whole = |cuts: &[usize]| {
            let mut reducer = Reducer::new(Totals::new(false, &[]));
            let mut first = 0;
            for &end in cuts.iter().chain([&losses.len()]) {
                reducer.push(&prepared(), &results(&losses[first..end], &[], &labels[first..end]));
                first = end;
            }
            reducer.finish().loss.to_bits()
        };
        let parts = {
            let mut reducer = Reducer::new(Totals::new(false, &[]));
            reducer.push(&prepared(), &results(&losses[..100], &[], &labels[..100]));
            for range in [100..1024, 1024..3072, 3072..5000] {
                let mut part = reducer.part(range.start as u64);
                let rows = results(&losses[range.clone()], &[], &labels[range]);
                let prepared = prepared();
                dispatch(
                    Instructions::Portable,
                    Push { part: &mut part, totals: reducer.totals(), prepared: &prepared, rows: &rows },
                );
                reducer.join(&part);
            }
            reducer.finish().loss.to_bits()
        };
        let expected = whole(&[]);
        for cuts in [vec![1], vec![7, 9, 1023], vec![1024], vec![1000, 1025, 4999]] {
            assert_eq!(whole(&cuts), expected, "{cuts:?}");
        }
        assert_eq!(parts, expected);
    }
}
