//! Rows of predictions and targets of every kind that has been trouble to somebody: a number picks the kind, a seed the
//! values.

use super::oracle::{Extra, Input, Problem, Targets};

/// A generator that gives the same numbers everywhere (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number
/// Generators").
pub struct Random(u64);

impl Random {
    /// The generator for a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// From 0 to 1, never 0 itself.
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Of mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() <= probability
    }

    fn of(&mut self, values: &[f32]) -> f32 {
        values[self.below(values.len())]
    }
}

/// Kinds of rows of predictions, for every input.
pub const ROW_KINDS: usize = 24;
/// Kinds of rows of dense targets.
pub const TARGET_KINDS: usize = 8;

/// A row of predictions.
pub fn row(random: &mut Random, input: Input, classes: usize, kind: usize) -> Vec<f32> {
    match input {
        Input::Logits => logits(random, classes, kind),
        Input::Probabilities => probabilities(random, classes, kind),
        Input::LogProbabilities => log_probabilities(random, classes, kind),
    }
}

fn filled(classes: usize, value: impl FnMut(usize) -> f32) -> Vec<f32> {
    (0..classes).map(value).collect()
}

fn scaled_normals(random: &mut Random, classes: usize, scale: f64) -> Vec<f32> {
    filled(classes, |_| (scale * random.normal()) as f32)
}

/// Some entries become `value`.
fn sprinkled(random: &mut Random, mut row: Vec<f32>, share: f64, value: f32) -> Vec<f32> {
    row.iter_mut().filter(|_| random.chance(share)).for_each(|x| *x = value);
    row
}

/// One entry becomes `value`.
fn spiked(random: &mut Random, mut row: Vec<f32>, value: f32) -> Vec<f32> {
    let place = random.below(row.len());
    row[place] = value;
    row
}

/// From `start` in equal steps over `reach`.
fn slope(classes: usize, start: f64, reach: f64) -> Vec<f32> {
    filled(classes, |class| (start + reach * class as f64 / classes as f64) as f32)
}

fn logits(random: &mut Random, classes: usize, kind: usize) -> Vec<f32> {
    let plain = |random: &mut Random| scaled_normals(random, classes, 3.0);
    match kind {
        0 => scaled_normals(random, classes, 1.0),
        1 => scaled_normals(random, classes, 10.0),
        2 => scaled_normals(random, classes, 100.0),
        3 => scaled_normals(random, classes, 10_000.0),
        4 => filled(classes, |_| random.of(&[-2.0, -1.0, 0.0, 1.0])),
        5 => vec![(100.0 * random.normal()) as f32; classes],
        6 => {
            let top = 10.0 + 80.0 * random.uniform();
            let row = scaled_normals(random, classes, 1.0);
            spiked(random, row, top as f32)
        }
        7 | 8 => {
            let (start, reach) = (50.0 * random.normal(), 10f64.powf(4.0 * random.uniform() - 2.0));
            let reach = if kind == 7 { reach } else { -reach };
            slope(classes, start, reach)
        }
        // A spike over equal entries: what they add rounds to the same side every time.
        9 => {
            let floor = (5.0 * random.normal()) as f32;
            let height = (20.0 * random.uniform()) as f32;
            spiked(random, vec![floor; classes], floor + height)
        }
        10 => {
            let row = plain(random);
            sprinkled(random, row, 0.3, f32::NEG_INFINITY)
        }
        11 => {
            let row = plain(random);
            spiked(random, row, f32::NAN)
        }
        12 => {
            let row = plain(random);
            spiked(random, row, f32::INFINITY)
        }
        13 => filled(classes, |_| random.of(&[1e30, -1e30, 0.0])),
        14 => filled(classes, |_| random.of(&[f32::MAX, f32::MIN])),
        // Masks as frameworks without infinities write them.
        15 => {
            let row = plain(random);
            sprinkled(random, row, 0.3, f32::MIN)
        }
        16 => filled(classes, |_| random.of(&[1e-45, -1e-45, 1e-39, -1e-39, 1e-38, 0.0])),
        17 => vec![random.of(&[0.0, -0.0]); classes],
        18 => vec![f32::NEG_INFINITY; classes],
        19 => vec![f32::MIN; classes],
        20 => {
            let row = vec![f32::NEG_INFINITY; classes];
            let one = (10.0 * random.normal()) as f32;
            spiked(random, row, one)
        }
        21 => {
            let offset = 10f64.powf(2.0 + 4.0 * random.uniform());
            filled(classes, |_| (offset + random.normal()) as f32)
        }
        22 => filled(classes, |_| random.of(&[1e30, 5.0, f32::MAX, -3.0, f32::NEG_INFINITY, f32::MIN, 0.0])),
        _ => {
            let row = plain(random);
            sprinkled(random, row, 0.2, -1e30)
        }
    }
}

fn probabilities(random: &mut Random, classes: usize, kind: usize) -> Vec<f32> {
    let soft = |random: &mut Random, scale: f64| softmax(&scaled_normals(random, classes, scale));
    match kind {
        0 => soft(random, 1.0),
        1 => soft(random, 10.0),
        2 => soft(random, 100.0),
        3 => filled(classes, |_| (1000.0 * random.uniform()) as f32),
        4 => filled(classes, |_| random.of(&[0.25, 0.5, 0.0])),
        5 => vec![random.of(&[1.0, 0.1, 3e-5]); classes],
        // Nearly certain: what is left for the others is all that the loss has.
        6 => {
            let left = 10f64.powf(-12.0 * random.uniform());
            let row = filled(classes, |_| (left * random.uniform()) as f32);
            spiked(random, row, 1.0)
        }
        7 => slope(classes, 1e-3, 1.0),
        8 => slope(classes, 1.0, -1.0),
        9 => {
            let floor = (random.uniform() * 1e-4) as f32;
            spiked(random, vec![floor; classes], 1.0)
        }
        10 => spiked(random, vec![0.0; classes], 1.0),
        11 => {
            let row = soft(random, 1.0);
            spiked(random, row, f32::NAN)
        }
        12 => {
            let row = soft(random, 1.0);
            let infinity = random.of(&[f32::INFINITY, f32::NEG_INFINITY]);
            spiked(random, row, infinity)
        }
        13 => filled(classes, |_| random.of(&[1e30, 2e30, 0.0, 1.0])),
        14 => filled(classes, |_| random.of(&[f32::MAX, 1e38, 0.0])),
        15 => filled(classes, |_| -random.uniform() as f32),
        16 => filled(classes, |_| random.of(&[1e-45, 1e-39, 1e-38, 0.0, 3e-39])),
        17 => vec![0.0; classes],
        // Shares around both clip bounds.
        18 => {
            let row = filled(classes, |_| (2e-7 * random.uniform()) as f32);
            spiked(random, row, 1.0)
        }
        19 => filled(classes, |_| 10f64.powf(76.0 * random.uniform() - 38.0) as f32),
        // A few negative entries, too few to cancel what the others sum to.
        20 | 21 => {
            let mut row = filled(classes, |_| random.uniform() as f32);
            for x in row.iter_mut().filter(|_| random.chance(0.1)) {
                *x *= -0.1;
            }
            if kind == 21 { row.iter().map(|x| -x).collect() } else { row }
        }
        22 => {
            let row = soft(random, 1.0);
            sprinkled(random, row, 0.5, 0.0)
        }
        _ => {
            let row = soft(random, 3.0);
            sprinkled(random, row, 0.3, 1e-40)
        }
    }
}

fn log_probabilities(random: &mut Random, classes: usize, kind: usize) -> Vec<f32> {
    let soft = |random: &mut Random, scale: f64| log_softmax(&scaled_normals(random, classes, scale));
    match kind {
        0 => soft(random, 1.0),
        1 => soft(random, 10.0),
        2 => soft(random, 100.0),
        3 => soft(random, 10_000.0),
        // Nobody checks them: of both signs, ascending, constant, or what have you.
        _ => logits(random, classes, kind),
    }
}

fn log_softmax(x: &[f32]) -> Vec<f32> {
    let top = f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let log_total = x.iter().map(|x| (f64::from(*x) - top).exp()).sum::<f64>().ln();
    x.iter().map(|x| (f64::from(*x) - top - log_total) as f32).collect()
}

fn softmax(x: &[f32]) -> Vec<f32> {
    log_softmax(x).iter().map(|x| f64::from(*x).exp() as f32).collect()
}

/// A row of dense targets.
pub fn target(random: &mut Random, classes: usize, kind: usize) -> Vec<f32> {
    match kind {
        0 | 1 => spiked(random, vec![0.0; classes], 1.0),
        2 => softmax(&scaled_normals(random, classes, 2.0)),
        3 => filled(classes, |_| (3.0 * random.uniform()) as f32),
        4 => filled(classes, |_| random.of(&[-1.0, -0.25, 0.0, 0.5, 2.0])),
        5 => vec![0.0; classes],
        6 => filled(classes, |_| random.of(&[0.0, 0.0, 0.5])),
        _ => spiked(random, vec![0.5; classes], f32::NAN),
    }
}

/// A problem without options: each row is of the next kind from `first_kind` on.
pub fn problem(seed: u64, input: Input, dense: bool, rows: usize, classes: usize, first_kind: usize) -> Problem {
    let mut random = Random::new(seed);
    let kind = |row: usize| (first_kind + row) % ROW_KINDS;
    let predictions = (0..rows).flat_map(|i| row(&mut random, input, classes, kind(i))).collect();
    let targets = if dense {
        Targets::Dense((0..rows).flat_map(|i| target(&mut random, classes, (first_kind / 3 + i) % TARGET_KINDS)).collect())
    } else {
        Targets::Classes((0..rows).map(|_| random.below(classes) as i64).collect())
    };
    Problem {
        input,
        rows,
        classes,
        predictions,
        targets,
        label_smoothing: 0.0,
        epsilon: 1e-7,
        ignore_index: None,
        class_weights: None,
        sample_weights: None,
        extra: Extra::default(),
    }
}
