//! The rows that cost most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// So many are shown.
const MOST: usize = 20;

/// The costliest rows so far, in no order.
#[derive(Default)]
pub(super) struct Worst(BinaryHeap<Reverse<(u32, Reverse<u64>)>>);

impl Worst {
    /// Rows that cost nothing, or less, are none of them.
    pub(super) fn add(&mut self, row: u64, loss: f32) {
        if loss <= 0.0 {
            return;
        }
        // Bits of positive floats are in their order: infinity behind all numbers, and a NaN behind that.
        let bits = loss.abs().to_bits();
        if self.0.len() == MOST && self.0.peek().is_some_and(|Reverse((least, _))| bits <= *least) {
            return;
        }
        self.0.push(Reverse((bits, Reverse(row))));
        if self.0.len() > MOST {
            self.0.pop();
        }
    }

    /// Rows with their losses: first those that have none, then the costliest; of equals the first.
    pub(super) fn rows(self) -> Vec<(u64, f32)> {
        let sorted = self.0.into_sorted_vec();
        sorted.into_iter().map(|Reverse((bits, Reverse(row)))| (row, f32::from_bits(bits))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_costliest_come_first_and_of_equals_the_earliest() {
        let mut worst = Worst::default();
        for (row, loss) in [0.5, f32::INFINITY, 0.0, -1.0, 2.0, -f32::NAN, 2.0].into_iter().enumerate() {
            worst.add(row as u64, loss);
        }
        let rows: Vec<u64> = worst.rows().into_iter().map(|(row, _)| row).collect();
        assert_eq!(rows, [5, 1, 4, 6, 0]);

        let mut worst = Worst::default();
        (0..1000).for_each(|row| worst.add(row, (row % 100) as f32));
        let rows = worst.rows();
        assert_eq!(rows.len(), MOST);
        assert_eq!((rows[0], rows[9], rows[10]), ((99, 99.0), (999, 99.0), (98, 98.0)));
    }
}
