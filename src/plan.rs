//! From a batch' shape and a device's limits to windows, driver and dispatch. Pure: it needs no device.

use crate::error::{Error, Result};
use crate::layout::Element;

/// Who folds a row on the GPU: one WGSL file in `shaders/rows/` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Driver {
    /// Four rows a lane.
    Lane,
    /// A lane a row, staged in workgroup memory.
    Tile,
    /// Lanes of a team stride over a row's words.
    Team,
    /// A workgroup a part of a row.
    Split,
}

impl Driver {
    /// The driver's WGSL file.
    pub(crate) fn wgsl(self) -> &'static str {
        match self {
            Self::Lane => include_str!("../shaders/rows/lane.wgsl"),
            Self::Tile => include_str!("../shaders/rows/tile.wgsl"),
            Self::Team => include_str!("../shaders/rows/team.wgsl"),
            Self::Split => include_str!("../shaders/rows/split.wgsl"),
        }
    }

    /// The functions of a kernel in the order in which they are dispatched. Not every loss needs all.
    pub(crate) fn entries(self) -> &'static [&'static str] {
        match self {
            Self::Lane | Self::Tile | Self::Team => &["rows"],
            Self::Split => &["find_parts", "join_parts", "sum_parts", "finish_rows", "write_gradients"],
        }
    }

    /// Lanes of a row work together.
    pub(crate) fn is_team(self) -> bool {
        matches!(self, Self::Team | Self::Split)
    }

    /// Lanes take the words of memory, so that the order of a row's sums depends on where in a word it begins.
    pub(crate) fn is_by_words(self) -> bool {
        self.is_team()
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
    /// Lanes of the smallest and the largest subgroup; 0 where lanes cannot shuffle.
    pub subgroups: (u32, u32),
}

/// How a row is folded. It follows from the number of classes and the device alone, never from the windows: so the order of
/// sums in a row, and its bits, do not depend on how a batch is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Scheme {
    pub driver: Driver,
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Lanes that share a row.
    pub team: u32,
    /// Lanes of a team that shuffle, a power of two; 1 where all meet in workgroup memory.
    pub together: u32,
    /// 16-byte words that a lane holds in registers; 0 where rows are read again for terms and gradient.
    pub words: u32,
    /// Classes, where four rows of them are a few words; else 0.
    pub narrow: u32,
    /// Words from one staged row to the next: an odd number.
    pub pitch: u32,
    /// Predictions of a part of a row; 0 where rows are not split.
    pub part: u32,
    /// The most workgroups of a dispatch: each loops over rows, a grid's length apart.
    pub workgroups: u32,
}

/// One range of classes: who folds rows of so many.
struct Range {
    /// The last number of classes of the range; the first follows the range before.
    to: usize,
    driver: Driver,
    /// Lanes that share a row.
    team: u32,
    /// The row stays in registers.
    held: bool,
}

const fn range(to: usize, driver: Driver, team: u32, held: bool) -> Range {
    Range { to, driver, team, held }
}

/// The ranges on a GPU, where memory wants 128 neighbouring bytes at a time.
const GPU: [Range; 7] = [
    // Four rows are at most four words, and a lane's words are neighbours of the next lane's.
    range(4, Driver::Lane, 1, true),
    // A row is too short for several lanes to read together, and too long for a lane's words to be neighbours. Dense targets
    // as well fit into WebGPU's default of 16 KiB of workgroup memory.
    range(31, Driver::Tile, 1, true),
    // 8 lanes read 128 bytes, and a row of 33 words or fewer keeps them busy.
    range(64, Driver::Team, 8, true),
    range(128, Driver::Team, 16, true),
    // As many lanes as most subgroups have: states merge without a barrier. Up to 12 words a lane.
    range(1024, Driver::Team, 32, true),
    // Up to 12 words for each lane of a workgroup of WebGPU's default size.
    range(8192, Driver::Team, 256, true),
    // More words than registers: the row is read again for terms and gradient.
    range(SPLIT_FROM, Driver::Team, 256, false),
];

/// The ranges on a software adapter. Its lanes load one number at a time, so nothing is gained by neighbours, and merging is
/// what costs: rows side by side need none. A barrier costs more than a second read out of the processor's cache.
const SOFTWARE: [Range; 3] =
    [range(4, Driver::Lane, 1, true), range(1024, Driver::Lane, 1, false), range(SPLIT_FROM, Driver::Team, 0, false)];

/// Rows of more classes than this are split, be there many of them or few: which it is would depend on the windows. Joining
/// the parts costs one short dispatch more.
const SPLIT_FROM: usize = 16_384;
/// Predictions of the smallest part.
const PART: usize = 16_384;
/// The most parts of a row: longer rows have longer parts.
const MOST_PARTS: usize = 256;

/// The most lanes of a workgroup, by WebGPU's default.
const MOST_LANES: u32 = 256;
/// Lanes of a workgroup where rows need fewer.
const FEW_LANES: u32 = 64;
/// Lanes of a team on a software adapter without subgroups.
const SOFTWARE_TEAM: u32 = 8;

/// How the rows of a batch are worked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rows of a window, at least 1.
    pub window_rows: usize,
    /// Rows of the largest window that memory and the caller allow.
    pub most_rows: usize,
    pub scheme: Scheme,
}

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
    let (smallest, largest) = device.subgroups;
    let (table, widest): (&[Range], u32) = if device.software {
        // A subgroup is a vector of the processor.
        (&SOFTWARE, if smallest == 0 { SOFTWARE_TEAM } else { smallest.min(MOST_LANES) })
    } else {
        (&GPU, MOST_LANES)
    };
    let split = range(usize::MAX, Driver::Split, widest, false);
    let range = table.iter().find(|range| classes <= range.to).unwrap_or(&split);
    let team = if range.team == 0 { widest } else { range.team };
    // No subgroup may have lanes to spare: a workgroup of them would not be counted out.
    let shuffles = range.driver.is_team() && smallest > 1 && largest <= MOST_LANES;
    let together = if shuffles { team.min(1 << smallest.ilog2()) } else { 1 };
    let lanes = match range.driver {
        Driver::Split => team,
        Driver::Team if device.software => team,
        Driver::Lane | Driver::Tile | Driver::Team => team.max(FEW_LANES),
    };
    // A row may begin three elements into its first word.
    let words = (classes as u64 + 3).div_ceil(4).div_ceil(u64::from(team)) as u32;
    let part = classes.div_ceil(MOST_PARTS).max(PART).next_multiple_of(4);
    Scheme {
        driver: range.driver,
        lanes: if shuffles && range.driver == Driver::Team { lanes.max(largest) } else { lanes },
        team,
        together,
        words: if range.held && range.driver == Driver::Team { words.next_multiple_of(WORDS_AT_A_TIME) } else { 0 },
        narrow: if range.held && range.driver == Driver::Lane { classes as u32 } else { 0 },
        pitch: if range.driver == Driver::Tile { classes as u32 | 1 } else { 1 },
        part: if range.driver == Driver::Split { part as u32 } else { 0 },
        // Enough to fill the largest GPUs several times over, few enough for one dimension of a dispatch.
        workgroups: if device.software { 256 } else { 8192 },
    }
}

/// Words that a walk takes in at a time: `DEPTH` in `shaders/math.wgsl`.
pub(crate) const WORDS_AT_A_TIME: u32 = 4;

impl Scheme {
    /// Workgroups for so many rows, or parts of rows.
    pub(crate) fn dispatch(&self, rows: usize) -> u32 {
        let needed = match self.driver {
            Driver::Lane => rows.div_ceil(4 * self.lanes as usize),
            Driver::Tile => rows.div_ceil(self.lanes as usize),
            Driver::Team => rows.div_ceil((self.lanes / self.team) as usize),
            Driver::Split => rows,
        };
        needed.clamp(1, self.workgroups as usize) as u32
    }

    /// Parts of a row of `classes` classes, which may begin up to three elements before it.
    pub(crate) fn parts(&self, classes: usize) -> usize {
        if self.part == 0 { 1 } else { (classes + 3).div_ceil(self.part as usize) }
    }

    /// Bytes for the states of the parts of `rows` rows.
    pub(crate) fn scratch_bytes(&self, rows: usize, classes: usize) -> u64 {
        if self.part == 0 { 0 } else { rows as u64 * (1 + self.parts(classes) as u64) * SLOT_BYTES }
    }

    /// Elements that a row begins after a word of 16 bytes, for the row's place in the whole.
    pub(crate) fn first(&self, row: u64, classes: usize) -> usize {
        if self.driver.is_by_words() { (u128::from(row) * classes as u128 % 4) as usize } else { 0 }
    }

    /// Sizes that are constants of the shaders' text, by their names there.
    pub(crate) fn sizes(&self) -> [(&'static str, u32); 3] {
        [("WORDS", self.words), ("HELD", self.words.max(1)), ("PITCH", self.pitch)]
    }
}

/// Bytes of a slot in the scratch of split rows: `SLOT` in `shaders/rows/split.wgsl`.
pub(crate) const SLOT_BYTES: u64 = 64;

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
        DeviceLimits { adapter: "test".into(), binding, software, subgroups: (32, 32) }
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
    fn dispatches_cover_the_rows_and_stay_in_one_dimension() {
        let plan = gpu(10, None, &device(128 << 20, false)).expect("it fits");
        assert_eq!((plan.scheme.dispatch(0), plan.scheme.dispatch(1), plan.scheme.dispatch(65)), (1, 1, 2));
        assert!(plan.scheme.dispatch(usize::MAX) < 65536);
    }
}
