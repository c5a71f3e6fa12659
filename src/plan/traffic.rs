//! Bytes that each driver moves between memory and the lanes, against the least that has to move: the statement, and its test.

use super::{DeviceLimits, Driver, Scheme};

/// What a kernel has to do with a row besides folding it.
#[derive(Debug, Clone, Copy)]
struct Walks {
    /// Targets are dense.
    dense: bool,
    /// Terms need a second walk.
    terms: bool,
    /// A gradient is written.
    gradient: bool,
}

impl Walks {
    fn all() -> impl Iterator<Item = Self> {
        (0..8).map(|bits| Self { dense: bits & 1 != 0, terms: bits & 2 != 0, gradient: bits & 4 != 0 })
    }
}

/// How often memory is touched for each prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Traffic {
    /// Reads of the prediction.
    predictions: u32,
    /// Reads of a dense target.
    targets: u32,
    /// Writes of the gradient.
    gradient: u32,
}

impl Traffic {
    /// What a driver moves. A narrow row is a few words, which its lane finds in the nearest cache when it comes back to
    /// them, and a tile never leaves the chip. Rows of teams are to be in the last cache still for the next walk: they are 128 to 256
    /// bytes a lane, 12 to 24 MiB for a hundred thousand lanes. Rows in parts are read once for each walk.
    fn of(scheme: &Scheme, walks: Walks) -> Self {
        let again = u32::from(walks.terms) + u32::from(walks.gradient);
        let (predictions, targets) = match scheme.driver {
            Driver::Lane | Driver::Tile if scheme.narrow > 0 => (1, 1),
            Driver::Team => (1, 1),
            Driver::Lane | Driver::Tile | Driver::Split => (1 + again, 1 + again),
        };
        let targets = if walks.dense { targets } else { 0 };
        Self { predictions, targets, gradient: u32::from(walks.gradient) }
    }

    /// The least that has to move.
    fn least(walks: Walks) -> Self {
        Self { predictions: 1, targets: u32::from(walks.dense), gradient: u32::from(walks.gradient) }
    }

    /// Bytes a prediction of `element` bytes.
    fn bytes(self, element: u32) -> u32 {
        self.predictions * element + 4 * (self.targets + self.gradient)
    }
}

#[test]
fn bytes_moved_against_the_least() {
    let device = DeviceLimits { adapter: "test".into(), binding: 128 << 20, software: false, subgroups: (32, 32) };
    for classes in [2, 4, 5, 31, 32, 64, 65, 128, 129, 1024, 1025, 8192, 8193, 16_384, 16_385, 1 << 20] {
        let scheme = Scheme::of(classes, &device);
        for walks in Walks::all() {
            let again = u32::from(walks.terms) + u32::from(walks.gradient);
            // Up to 16,384 classes everything is read once, whatever is asked for.
            let predictions = if classes <= 16_384 { 0 } else { again };
            let targets = if walks.dense { predictions } else { 0 };
            for element in [2, 4] {
                let excess = Traffic::of(&scheme, walks).bytes(element) - Traffic::least(walks).bytes(element);
                assert_eq!(excess, element * predictions + 4 * targets, "{classes} classes, {walks:?}");
            }
        }
    }
}
