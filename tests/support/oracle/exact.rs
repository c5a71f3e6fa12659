//! Sums whose rounding does not depend on order.

/// A sum without rounding, as parts that do not overlap (Shewchuk 1997, "Adaptive Precision Floating-Point Arithmetic").
/// Whether a row's probabilities sum to exactly 0, and what is left of a sum without one of them, must not depend on order.
#[derive(Clone, Default)]
pub struct Exact {
    /// In increasing magnitude.
    parts: Vec<f64>,
}

impl Exact {
    /// Of all values.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sum = Self::default();
        values.for_each(|value| sum.add(value));
        sum
    }

    /// Adds one.
    pub fn add(&mut self, value: f64) {
        let mut carried = value;
        let mut kept = 0;
        for i in 0..self.parts.len() {
            let part = self.parts[i];
            let (large, small) = if carried.abs() < part.abs() { (part, carried) } else { (carried, part) };
            carried = large + small;
            let lost = small - (carried - large);
            if lost != 0.0 {
                self.parts[kept] = lost;
                kept += 1;
            }
        }
        self.parts.truncate(kept);
        self.parts.push(carried);
    }

    /// Rounded once.
    pub fn value(&self) -> f64 {
        self.parts.iter().rev().fold(0.0, |sum, part| sum + part)
    }
}
