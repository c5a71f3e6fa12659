//! How the losses of rows are spread, in memory that does not grow with them.

/// A float32's bits but for these leave its exponent and seven digits: ranges whose ends are less than a hundredth apart.
const DROPPED: u32 = 16;
/// Ranges of the positive finite float32.
const RANGES: usize = 0x7f80;

/// Counts of losses: of 0, of less, of ranges above it, and of ∞. A NaN is no loss.
pub(super) struct Spread {
    pub negative: u64,
    pub zeros: u64,
    above: Vec<u64>,
    infinite: u64,
    /// The largest positive loss that is finite, or 0.
    largest: f32,
}

impl Spread {
    pub(super) fn new() -> Self {
        Self { negative: 0, zeros: 0, above: vec![0; RANGES], infinite: 0, largest: 0.0 }
    }

    pub(super) fn add(&mut self, loss: f32) {
        if loss > 0.0 {
            match self.above.get_mut((loss.to_bits() >> DROPPED) as usize) {
                Some(count) => {
                    *count += 1;
                    self.largest = self.largest.max(loss);
                }
                None => self.infinite += 1,
            }
        } else if loss == 0.0 {
            self.zeros += 1;
        } else if loss < 0.0 {
            self.negative += 1;
        }
    }

    /// Takes out rows that do not count, whose losses are 0.
    pub(super) fn without(&mut self, ignored: u64) {
        self.zeros = self.zeros.saturating_sub(ignored);
    }

    /// Losses.
    pub(super) fn count(&self) -> u64 {
        self.negative + self.zeros + self.above.iter().sum::<u64>() + self.infinite
    }

    /// A number, less than a hundredth too large and one of the losses at most, that this share of them does not exceed; 0 where they
    /// are 0 or less.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let wanted = (share * self.count() as f64).ceil() as u64;
        let mut seen = self.negative + self.zeros;
        let mut range = 0;
        while seen < wanted && range < RANGES {
            seen += self.above[range];
            range += 1;
        }
        if seen < wanted { f64::INFINITY } else { edge(range).min(self.largest.into()) }
    }

    /// From where to where there are positive losses.
    pub(super) fn positive(&self) -> Option<(f64, f64)> {
        let first = self.above.iter().position(|&count| count > 0)?;
        let last = self.above.iter().rposition(|&count| count > 0)?;
        // Nothing below the normal floats is told apart on a chart.
        let least = f64::from(f32::MIN_POSITIVE);
        Some((edge(first).max(least), edge(last + 1).max(2.0 * least)))
    }

    /// How many positive losses lie in each of `bars` ranges of equal length on a logarithmic scale from `least` to `most`.
    pub(super) fn bars(&self, (least, most): (f64, f64), bars: usize) -> Vec<u64> {
        let mut all = vec![0; bars];
        for (range, &count) in self.above.iter().enumerate().filter(|(_, count)| **count > 0) {
            // By its middle: neither end is on an edge.
            let middle = f64::midpoint(edge(range), edge(range + 1));
            let place = (middle / least).ln() / (most / least).ln() * bars as f64;
            all[(place.max(0.0) as usize).min(bars - 1)] += count;
        }
        all
    }
}

/// Where a range begins.
fn edge(range: usize) -> f64 {
    f64::from(f32::from_bits(((range as u32) << DROPPED).min(f32::MAX.to_bits())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_not_below() {
        let mut spread = Spread::new();
        let losses: Vec<f32> = (0..1000).map(|n| (n as f32 / 100.0).exp() - 1.0).collect();
        // A NaN is none of them.
        for loss in losses.iter().copied().chain([f32::NAN]) {
            spread.add(loss);
        }
        assert_eq!((spread.count(), spread.zeros), (1000, 1));
        for share in [0.5, 0.9, 0.99, 1.0] {
            let (got, want) = (spread.quantile(share), f64::from(losses[(share * 1000.0) as usize - 1]));
            assert!((want..want * 1.01).contains(&got), "{share}: {got}, {want}");
        }
        assert_eq!(spread.quantile(0.001), 0.0);
        assert_eq!(spread.quantile(1.0), f64::from(losses[999]), "not more than any loss");
        (0..1000).for_each(|_| spread.add(f32::INFINITY));
        assert_eq!((spread.count(), spread.quantile(0.51)), (2000, f64::INFINITY));
        assert!(spread.quantile(0.5).is_finite());
    }

    #[test]
    fn bars_hold_every_positive_loss() {
        let mut spread = Spread::new();
        assert!(spread.positive().is_none());
        for loss in [-1.0, 0.0, 0.0, 1e-40, 0.5, 0.5, 3.0, f32::MAX] {
            spread.add(loss);
        }
        spread.without(2);
        assert_eq!((spread.negative, spread.zeros, spread.count()), (1, 0, 6));
        let mut tiny = Spread::new();
        tiny.add(1e-40);
        assert!(tiny.positive().is_some_and(|(least, most)| least < most));
        let range = spread.positive().expect("some are");
        assert!(range.0 > 0.0 && range.1 >= f64::from(f32::MAX), "{range:?}");
        let bars = spread.bars(range, 10);
        assert_eq!((bars.iter().sum::<u64>(), bars[0], bars[9]), (5, 1, 1));
    }
}
