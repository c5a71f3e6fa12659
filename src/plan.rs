//! From a batch' shape and a device's limits to windows, driver and dispatch. Pure: it needs no device.

use crate::error::{Error, Result};
use crate::layout::Element;

/// Who folds a row on the GPU: one WGSL file in `shaders/rows/` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Driver {
    /// A lane a row.
    Lane,
    /// A workgroup a row.
    Workgroup,
}

impl Driver {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 2] = [Self::Lane, Self::Workgroup];

    /// The driver's WGSL file.
    pub(crate) fn wgsl(self) -> &'static str {
        match self {
            Self::Lane => include_str!("../shaders/rows/lane.wgsl"),
            Self::Workgroup => include_str!("../shaders/rows/workgroup.wgsl"),
        }
    }
}

/// What a plan needs to know of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceLimits {
    /// The device's name, for messages.
    pub adapter: String,
    /// Bytes of the largest storage binding and buffer.
    pub binding: u64,
    /// Its memory is the host's, and its lanes are few.
    pub software: bool,
}

/// How a row is folded. It follows from the number of classes and the device alone, never from the windows: so the order of
/// sums in a row, and its bits, do not depend on how a batch is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheme {
    pub driver: Driver,
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// The most workgroups of a dispatch: each loops over rows, a grid's length apart.
    pub workgroups: u32,
}

/// How the rows of a batch are worked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rows of a window, at least 1.
    pub window_rows: usize,
    /// Rows of the largest window that memory and the caller allow.
    pub most_rows: usize,
    pub scheme: Scheme,
}

/// Up to so many classes a lane takes a row: a few 16-byte words, with no need of others.
const LANE_CLASSES: usize = 64;
/// Lanes of a workgroup where they do not work together, or where there are few to be had.
pub(crate) const FEW_LANES: u32 = 64;
/// Lanes of a workgroup that folds a row: as many as their states fit into WebGPU's default of 16 KiB of workgroup memory.
pub(crate) const MANY_LANES: u32 = 128;
/// Bytes of a window on a GPU: far more than a dispatch costs, and well inside WebGPU's default binding of 128 MiB.
const GPU_WINDOW: u64 = 64 << 20;
/// Bytes of a window where the memory is the host's: predictions, their copy and their staging all come out of it.
const HOST_WINDOW: u64 = 32 << 20;
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
    if row_bytes > limit {
        return Err(Error::RowTooLarge { classes, bytes: row_bytes, limit: device.binding, adapter: device.adapter.clone() });
    }
    let target = if device.software { HOST_WINDOW } else { GPU_WINDOW };
    let most = (limit.min(target) / row_bytes.max(RECORD)).max(1) as usize;
    let most_rows = window_rows.map_or(most, |rows| rows.clamp(1, most));
    Ok(Plan { window_rows: most_rows, most_rows, scheme: scheme(classes, device) })
}

/// How rows of `classes` classes are folded.
pub(crate) fn scheme(classes: usize, device: &DeviceLimits) -> Scheme {
    let driver = if classes <= LANE_CLASSES { Driver::Lane } else { Driver::Workgroup };
    let lanes = match (driver, device.software) {
        (Driver::Lane, _) | (Driver::Workgroup, true) => FEW_LANES,
        (Driver::Workgroup, false) => MANY_LANES,
    };
    // Enough workgroups to fill the largest GPUs several times over, few enough for one dimension of a dispatch.
    Scheme { driver, lanes, workgroups: if device.software { 256 } else { 8192 } }
}

impl Scheme {
    /// Workgroups for so many rows.
    pub(crate) fn dispatch(&self, rows: usize) -> u32 {
        let needed = match self.driver {
            Driver::Lane => rows.div_ceil(self.lanes as usize),
            Driver::Workgroup => rows,
        };
        needed.clamp(1, self.workgroups as usize) as u32
    }
}

impl Plan {
    /// Bytes of a buffer with one value for each of a window's predictions.
    pub(crate) fn element_bytes(&self, classes: usize, element: Element) -> u64 {
        // One word more, for rows that start within one.
        (self.window_rows as u64 * classes as u64 * element.bytes()).next_multiple_of(WORD) + WORD
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
        DeviceLimits { adapter: "test".into(), binding, software }
    }

    #[test]
    fn windows_fit_every_binding() {
        for binding in [1 << 10, 128 << 20, (1 << 31) - 1] {
            for software in [false, true] {
                for classes in [0, 1, 2, 3, 5, 64, 65, 100, 1000, 100_000] {
                    let Ok(plan) = gpu(classes, None, &device(binding, software)) else {
                        assert!(classes as u64 * 4 + 64 > binding);
                        continue;
                    };
                    assert!(plan.element_bytes(classes, Element::F32) <= binding, "{classes} classes in {binding}");
                    assert!(plan.row_bytes(8) <= binding);
                    assert!(plan.window_rows >= 1);
                    if software {
                        assert!(plan.element_bytes(classes, Element::F32) <= (32 << 20) + 32);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_larger_than_a_binding_is_an_error() {
        let error = gpu(1 << 26, None, &device(128 << 20, false)).expect_err("256 MiB in 128 MiB");
        assert!(error.to_string().contains("134217728"), "{error}");
        assert!(gpu(usize::MAX, None, &device(128 << 20, false)).is_err());
    }

    #[test]
    fn driver_and_lanes_do_not_depend_on_the_windows() {
        for classes in [LANE_CLASSES, LANE_CLASSES + 1] {
            let plans = [Some(1), Some(7), None].map(|rows| gpu(classes, rows, &device(128 << 20, false)).expect("it fits"));
            assert!(plans.iter().all(|p| p.scheme == plans[0].scheme));
        }
        assert_eq!(gpu(LANE_CLASSES, None, &device(128 << 20, false)).expect("it fits").scheme.driver, Driver::Lane);
        assert_eq!(gpu(LANE_CLASSES + 1, None, &device(128 << 20, false)).expect("it fits").scheme.driver, Driver::Workgroup);
    }

    #[test]
    fn dispatches_cover_the_rows_and_stay_in_one_dimension() {
        let plan = gpu(10, None, &device(128 << 20, false)).expect("it fits");
        assert_eq!((plan.scheme.dispatch(0), plan.scheme.dispatch(1), plan.scheme.dispatch(65)), (1, 1, 2));
        assert!(plan.scheme.dispatch(usize::MAX) < 65536);
    }
}
