//! From a batch' shape and a device's limits to windows, driver and dispatch. Pure: it needs no device.

mod drivers;
#[cfg(test)]
mod traffic;

#[cfg(test)]
pub(crate) use drivers::SLOT_BYTES;
pub(crate) use drivers::{Driver, Scheme};

use crate::error::{Error, Result};
use crate::layout::Element;

/// What a plan needs to know of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceLimits {
    /// The device's name, for messages.
    pub adapter: String,
    /// Bytes of the largest storage binding and buffer.
    pub binding: u64,
    /// Its memory is the host's, and its lanes are few.
    pub software: bool,
    /// Lanes of the smallest and the largest subgroup; 0 where lanes cannot shuffle.
    pub subgroups: (u32, u32),
}

impl DeviceLimits {
    /// Those of a GPU that nothing is known of.
    pub(crate) fn unknown() -> Self {
        Self { adapter: String::new(), binding: u64::from(u32::MAX), software: false, subgroups: (0, 0) }
    }
}

/// How the rows of a batch are worked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rows of a window, at least 1.
    pub window_rows: usize,
    /// Rows of the largest window that memory and the caller allow.
    pub most_rows: usize,
    /// Windows that may be under way at a time, each with memory of its own.
    pub in_flight: usize,
    /// Parts of a row that are uploaded at a time, where a row does not fit into a binding; windows then have one row.
    pub stretch: Option<usize>,
    pub scheme: Scheme,
}

/// Bytes of a window's predictions on a GPU: what takes the bus far longer than a submission costs.
const GPU_WINDOW: u64 = 16 << 20;
/// The same where the device is the host's processor: less than that, so that what the host has filled in is still in its last
/// cache when lanes read it.
const HOST_WINDOW: u64 = 8 << 20;
/// Windows under way: while the device works on one, the host takes the results of the one before and fills it again.
/// With a third one nothing was faster.
const IN_FLIGHT: u64 = 2;
/// Bytes of a 16-byte word, by which a window may start late.
const WORD: u64 = 16;

/// Bytes of the longest record of a row, which may be more than the row itself.
const RECORD: u64 = 32;

/// Bytes of a float32.
const ELEMENT: u64 = 4;

/// The plan for rows of `classes` classes on a GPU.
pub(crate) fn gpu(classes: usize, window_rows: Option<usize>, device: &DeviceLimits) -> Result<Plan> {
    let row_bytes = (classes as u64).saturating_mul(ELEMENT);
    // A row's phase within its first word, the end of its last word, and its record where all is read back, come on top.
    let limit = device.binding.saturating_sub(2 * WORD + RECORD);
    let target = limit.min(if device.software { HOST_WINDOW } else { GPU_WINDOW });
    let scheme = Scheme::of(classes, device);
    if row_bytes > limit {
        let part_bytes = u64::from(scheme.part) * ELEMENT;
        // Kernels count classes in 32 bits, and every 16-byte word's first as a multiple of four.
        if scheme.driver != Driver::Split || part_bytes > limit || row_bytes > (u64::from(u32::MAX) - 4) * ELEMENT {
            let adapter = device.adapter.clone();
            return Err(Error::RowTooLarge { classes, bytes: row_bytes, limit: device.binding, adapter });
        }
        // One stretch at a time, in the memory of all the windows that might be in flight.
        let stretch = ((IN_FLIGHT * target).min(limit).max(part_bytes) / part_bytes) as usize;
        return Ok(Plan { window_rows: 1, most_rows: 1, in_flight: 1, stretch: Some(stretch), scheme });
    }
    let most = (target / row_bytes.max(RECORD)).max(1) as usize;
    let most_rows = window_rows.map_or(most, |rows| rows.clamp(1, most));
    // Rows longer than a window may have no more memory than windows have together.
    let in_flight = (IN_FLIGHT * target / row_bytes.max(1)).clamp(1, IN_FLIGHT) as usize;
    Ok(Plan { window_rows: most_rows, most_rows, in_flight, stretch: None, scheme })
}

impl Plan {
    /// Bytes of a buffer with one value for each of a window's predictions.
    pub(crate) fn element_bytes(&self, classes: usize, element: Element) -> u64 {
        let elements = match self.stretch {
            None => self.window_rows as u64 * classes as u64,
            Some(parts) => parts as u64 * u64::from(self.scheme.part),
        };
        // One word more, for rows that start within one.
        (elements * element.bytes()).next_multiple_of(WORD) + WORD
    }

    /// Bytes of a buffer with `values` 4-byte values a row.
    pub(crate) fn row_bytes(&self, values: u32) -> u64 {
        (self.window_rows as u64 * u64::from(values) * ELEMENT).next_multiple_of(WORD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(binding: u64, software: bool) -> DeviceLimits {
        DeviceLimits { adapter: "test".into(), binding, software, subgroups: (32, 32) }
    }

    #[test]
    fn windows_fit_every_binding() {
        for binding in [1 << 10, 1 << 20, 128 << 20, (1 << 31) - 1] {
            for software in [false, true] {
                for classes in [0, 1, 2, 3, 5, 64, 65, 100, 1000, 100_000, 1 << 30] {
                    let Ok(plan) = gpu(classes, None, &device(binding, software)) else {
                        assert!(classes as u64 * 4 + 64 > binding);
                        continue;
                    };
                    assert!(plan.element_bytes(classes, Element::F32) <= binding, "{classes} classes in {binding}");
                    assert!(plan.row_bytes(8) <= binding);
                    assert!(plan.window_rows >= 1);
                    let all = plan.in_flight as u64 * plan.element_bytes(classes, Element::F32);
                    assert!(all <= IN_FLIGHT * (if software { HOST_WINDOW } else { GPU_WINDOW } + 32));
                }
            }
        }
    }

    #[test]
    fn a_row_larger_than_a_binding_comes_in_stretches() {
        let plan = gpu(1 << 26, None, &device(128 << 20, false)).expect("256 MiB in 128 MiB");
        let part = plan.scheme.part as usize;
        assert_eq!((plan.window_rows, part), (1, 1 << 18));
        assert_eq!((plan.stretch, plan.in_flight), (Some(32), 1));
        assert_eq!(plan.element_bytes(1 << 26, Element::F32), (32 << 20) + 16);
    }

    #[test]
    fn long_rows_fly_alone() {
        let in_flight = |classes| gpu(classes, None, &device(128 << 20, false)).map(|plan| (plan.window_rows, plan.in_flight));
        assert_eq!(in_flight(1000), Ok((4194, 2)));
        assert_eq!(in_flight(1 << 22), Ok((1, 2)));
        assert_eq!(in_flight((1 << 22) + 1), Ok((1, 1)));
        assert_eq!(in_flight(1 << 24), Ok((1, 1)));
    }

    #[test]
    fn what_no_stretch_can_hold_is_an_error() {
        let error = gpu(1 << 20, None, &device(1 << 12, false)).expect_err("a part has 64 KiB");
        assert!(error.to_string().contains("4096"), "{error}");
        assert!(gpu(usize::MAX, None, &device(128 << 20, false)).is_err());
        assert!(gpu(1000, None, &device(1 << 10, false)).is_err());
    }
}
