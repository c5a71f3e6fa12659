//! Who folds a row on the GPU: the drivers, and which of them takes rows of so many classes on which device.

use super::DeviceLimits;

/// Who folds a row: one WGSL file in `shaders/rows/` each.
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
            Self::Lane => include_str!("../../shaders/rows/lane.wgsl"),
            Self::Tile => include_str!("../../shaders/rows/tile.wgsl"),
            Self::Team => include_str!("../../shaders/rows/team.wgsl"),
            Self::Split => include_str!("../../shaders/rows/split.wgsl"),
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

/// How a row is folded. It follows from the number of classes, their layout and the device alone, never from the windows: so
/// the order of sums in a row, and its bits, do not depend on how a batch is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Scheme {
    pub driver: Driver,
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Lanes that share a row.
    pub team: u32,
    /// Lanes of a team that shuffle, a power of two; 1 where all meet in workgroup memory.
    pub together: u32,
    /// Blocks of four predictions that a lane takes in at a time.
    pub depth: u32,
    /// A lane may have more than eight times so many, and adds up in tiers.
    pub long: bool,
    /// Classes, where a kernel is compiled for just so many; else 0.
    pub narrow: u32,
    /// Elements from one staged row to the next: no multiple of four.
    pub pitch: u32,
    /// Predictions of a part of a row; 0 where rows are not split.
    pub part: u32,
    /// The most workgroups of a dispatch: each has several turns where there are more rows.
    pub workgroups: u32,
}

/// One range of classes: who folds rows of so many.
struct Range {
    /// The last number of classes of the range; the first follows the range before.
    to: usize,
    driver: Driver,
    /// Lanes that share a row; 0 for as many as shuffle.
    team: u32,
    /// Each number of classes has a kernel of its own.
    narrow: bool,
}

const fn range(to: usize, driver: Driver, team: u32, narrow: bool) -> Range {
    Range { to, driver, team, narrow }
}

/// The ranges on a GPU, where memory wants 128 neighbouring bytes at a time.
const GPU: [Range; 11] = [
    // Four rows are at most four words, and a lane's words are neighbours of the next lane's.
    range(4, Driver::Lane, 1, true),
    // A row is too short for several lanes to read together, and too long for a lane's words to be neighbours. With dense
    // targets beside them, 64 rows of 31 fit into WebGPU's default of 16 KiB of workgroup memory.
    range(31, Driver::Tile, 1, true),
    // Neighbouring teams read neighbouring rows, so bytes are neighbours all the same. What a row costs besides its classes it
    // costs each lane: so few, with about eight words each, all under way at once.
    range(64, Driver::Team, 2, false),
    range(128, Driver::Team, 4, false),
    range(256, Driver::Team, 8, false),
    range(512, Driver::Team, 16, false),
    // As many lanes as most subgroups have: they join without a barrier.
    range(2048, Driver::Team, 32, false),
    // With longer rows more lanes, so that all rows that are under way stay in the GPU's last cache for another walk, up to a
    // workgroup of WebGPU's default size.
    range(4096, Driver::Team, 64, false),
    range(8192, Driver::Team, 128, false),
    range(SPLIT_FROM, Driver::Team, 256, false),
    // Enough for several workgroups, so that few rows fill a GPU. Which rows are split depends on their length alone and not
    // on how many there are, since that depends on the windows. Joining the parts costs one short dispatch more.
    range(usize::MAX, Driver::Split, 256, false),
];

/// The ranges on a software adapter. A lane is a component of the processor's vectors, and loads one number at a time: so
/// nothing is gained by neighbours, but four numbers of one word come nearly as cheap as one. Rows side by side need no
/// merging. Workgroup memory is memory like any other, and a barrier costs more than a second read out of a cache.
const SOFTWARE: [Range; 4] = [
    // A kernel of its own for so many classes: rows come as whole words, wherever they begin.
    range(16, Driver::Lane, 1, true),
    // 32 rows (eight lanes of four) of 4 KiB stay in a core's cache for a second walk.
    range(1024, Driver::Lane, 1, false),
    // A row in the components of one vector: they merge once a row, which is little by now.
    range(SPLIT_FROM, Driver::Team, 0, false),
    // A few rows are to keep all cores busy.
    range(usize::MAX, Driver::Split, 0, false),
];

/// Rows of more classes than this are split.
const SPLIT_FROM: usize = 16_384;
/// Predictions of the smallest part of a row.
const PART: usize = 16_384;
/// The most parts of a row: longer rows have longer parts.
const MOST_PARTS: usize = 256;

/// The most lanes of a workgroup, by WebGPU's default.
const MOST_LANES: u32 = 256;
/// Lanes of a workgroup where rows need fewer.
const FEW_LANES: u32 = 64;
/// Components of a processor's vector, where a software adapter does not say.
const VECTOR: u32 = 8;
/// Workgroups of a dispatch: as many as one dimension may have, so that none has much more to do than others.
const WORKGROUPS: u32 = 65_535;
/// On a software adapter each one costs about as much as a thousand predictions.
const SOFTWARE_WORKGROUPS: u32 = 256;

/// Blocks that a lane takes in at a time, unless a row has fewer.
const DEPTH: u32 = 4;
/// Turns of as many as a lane adds up one after the other: `add_tier` in `shaders/math.wgsl`.
const TIER: u64 = 8;

/// Bytes of a slot in the scratch of split rows: `SLOT` in `shaders/rows/split.wgsl`.
pub(crate) const SLOT_BYTES: u64 = 64;

impl Scheme {
    /// How rows of `classes` classes are folded.
    pub(crate) fn of(classes: usize, device: &DeviceLimits) -> Self {
        let table: &[Range] = if device.software { &SOFTWARE } else { &GPU };
        let [.., last] = table else { unreachable!("tables have entries") };
        Self::with(table.iter().find(|range| classes <= range.to).unwrap_or(last), classes, device)
    }

    /// How rows are folded that alternate, the class axis before others: neighbouring lanes then have neighbouring elements of
    /// memory, whatever the number of classes, and nothing is transposed.
    pub(crate) fn strided(classes: usize, device: &DeviceLimits) -> Self {
        Self::with(&range(usize::MAX, Driver::Lane, 1, false), classes, device)
    }

    fn with(range: &Range, classes: usize, device: &DeviceLimits) -> Self {
        let (smallest, largest) = device.subgroups;
        let vector = if smallest == 0 { VECTOR } else { smallest.min(MOST_LANES) };
        let team = if range.team == 0 { vector } else { range.team };
        // No subgroup may have lanes to spare: a workgroup of them would not be counted out.
        let shuffles = range.driver.is_team() && smallest > 1 && largest <= MOST_LANES;
        let lanes = match range.driver {
            // More than a vector's would only be taken in turn.
            Driver::Lane if device.software => vector,
            Driver::Split => team,
            Driver::Team if device.software => team,
            Driver::Team if shuffles => team.max(FEW_LANES).max(largest),
            Driver::Lane | Driver::Tile | Driver::Team => team.max(FEW_LANES),
        };
        let part = classes.div_ceil(MOST_PARTS).max(PART).div_ceil(4) * 4;
        // The most blocks of a lane. A row may begin three elements into its first word.
        let blocks = match range.driver {
            Driver::Lane => classes as u64,
            Driver::Tile => (classes as u64).div_ceil(4),
            Driver::Team => (classes as u64).saturating_add(3).div_ceil(4).div_ceil(u64::from(team)),
            Driver::Split => (part as u64 / 4).div_ceil(u64::from(team)),
        };
        let turns = blocks.div_ceil(DEPTH.into()).max(1);
        let depth = match range.driver {
            // As few turns as there must be, all alike.
            Driver::Tile => blocks.div_ceil(turns) as u32,
            // In the order of rows that alternate, which have the same bits.
            Driver::Lane if range.narrow => blocks.clamp(1, DEPTH.into()) as u32,
            Driver::Lane | Driver::Team | Driver::Split => DEPTH,
        };
        Self {
            driver: range.driver,
            lanes,
            team,
            together: if shuffles { team.min(1 << smallest.ilog2()) } else { 1 },
            depth,
            long: turns > TIER,
            narrow: if range.narrow { classes as u32 } else { 0 },
            pitch: if range.driver == Driver::Tile { classes as u32 + u32::from(classes.is_multiple_of(4)) } else { 1 },
            part: if range.driver == Driver::Split { part as u32 } else { 0 },
            workgroups: if device.software { SOFTWARE_WORKGROUPS } else { WORKGROUPS },
        }
    }

    /// Workgroups for so many rows, or parts of rows.
    pub(crate) fn dispatch(&self, rows: usize) -> u32 {
        let needed = match self.driver {
            Driver::Lane => rows.div_ceil(4 * self.lanes as usize),
            Driver::Tile => rows.div_ceil(self.lanes as usize),
            Driver::Team => rows.div_ceil((self.lanes / self.team) as usize),
            Driver::Split => rows,
        };
        // The same number of turns for each.
        let turns = needed.div_ceil(self.workgroups as usize).max(1);
        needed.div_ceil(turns).max(1) as u32
    }

    /// Parts of a row of `classes` classes, which may begin up to three elements after a word does.
    pub(crate) fn parts(&self, classes: usize) -> usize {
        if self.part == 0 { 1 } else { classes.saturating_add(3).div_ceil(self.part as usize) }
    }

    /// Bytes for the states of the parts of `rows` rows.
    pub(crate) fn scratch_bytes(&self, rows: usize, classes: usize) -> u64 {
        let slots = if self.part == 0 { 0 } else { 1 + self.parts(classes) as u64 };
        (rows as u64).saturating_mul(slots).saturating_mul(SLOT_BYTES)
    }

    /// Elements that a row begins after a word of 16 bytes, for the row's place in the whole.
    pub(crate) fn first(&self, row: u64, classes: usize) -> usize {
        if self.driver.is_by_words() { (u128::from(row) * classes as u128 % 4) as usize } else { 0 }
    }

    /// Sizes that are constants of the shaders' text, by their names there.
    pub(crate) fn sizes(&self, dense: bool) -> [(&'static str, u32); 3] {
        // Dense targets are staged beside the predictions.
        let aimed = if dense { self.lanes * self.pitch } else { 1 };
        [("DEPTH", self.depth), ("PITCH", self.pitch), ("AIMED", aimed)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(software: bool, subgroups: (u32, u32)) -> DeviceLimits {
        DeviceLimits { adapter: "test".into(), binding: 128 << 20, software, subgroups }
    }

    /// What is picked: the driver, lanes of a row, lanes that shuffle, and whether there is a kernel for just so many classes.
    fn picked(classes: usize, device: &DeviceLimits) -> (Driver, u32, u32, bool) {
        let scheme = Scheme::of(classes, device);
        (scheme.driver, scheme.team, scheme.together, scheme.narrow > 0)
    }

    #[test]
    fn every_boundary_on_a_gpu() {
        for (subgroups, shuffling) in [((32, 32), 32), ((64, 64), 64), ((8, 32), 8), ((4, 4), 4), ((0, 0), 1)] {
            let device = device(false, subgroups);
            for (first, last, driver, team, narrow) in [
                (1, 4, Driver::Lane, 1, true),
                (5, 31, Driver::Tile, 1, true),
                (32, 64, Driver::Team, 2, false),
                (65, 128, Driver::Team, 4, false),
                (129, 256, Driver::Team, 8, false),
                (257, 512, Driver::Team, 16, false),
                (513, 2048, Driver::Team, 32, false),
                (2049, 4096, Driver::Team, 64, false),
                (4097, 8192, Driver::Team, 128, false),
                (8193, 16_384, Driver::Team, 256, false),
                (16_385, usize::MAX >> 8, Driver::Split, 256, false),
            ] {
                for classes in [first, last] {
                    let together = if driver.is_team() { team.min(shuffling) } else { 1 };
                    assert_eq!(picked(classes, &device), (driver, team, together, narrow), "{classes} in {subgroups:?}");
                }
            }
        }
    }

    #[test]
    fn every_boundary_on_a_software_adapter() {
        for (subgroups, vector) in [((4, 4), 4), ((8, 8), 8), ((16, 16), 16), ((0, 0), VECTOR)] {
            let device = device(true, subgroups);
            let together = if subgroups.0 > 1 { vector } else { 1 };
            for (first, last, picks) in [
                (1, 16, (Driver::Lane, 1, 1, true)),
                (17, 1024, (Driver::Lane, 1, 1, false)),
                (1025, 16_384, (Driver::Team, vector, together, false)),
                (16_385, usize::MAX >> 8, (Driver::Split, vector, together, false)),
            ] {
                for classes in [first, last] {
                    assert_eq!(picked(classes, &device), picks, "{classes} in {subgroups:?}");
                    assert_eq!(Scheme::of(classes, &device).lanes, vector);
                }
            }
        }
    }

    #[test]
    fn narrow_rows_have_kernels_of_their_size() {
        for subgroups in [(32, 32), (0, 0)] {
            let device = device(false, subgroups);
            for classes in 1..32 {
                let scheme = Scheme::of(classes, &device);
                assert_eq!(scheme.narrow as usize, classes);
                assert!((1..=DEPTH).contains(&scheme.depth) && !scheme.long);
                if scheme.driver == Driver::Tile {
                    assert!(scheme.pitch as usize >= classes && !scheme.pitch.is_multiple_of(4));
                }
            }
            let depth = |classes| Scheme::of(classes, &device).depth;
            assert_eq!([2, 4, 5, 10, 16, 17, 24, 31].map(depth), [2, 4, 2, 3, 4, 3, 3, 4]);
        }
    }

    #[test]
    fn tiers_are_for_lanes_with_many_blocks() {
        let gpu = device(false, (32, 32));
        for (classes, long) in [(31, false), (1024, false), (4096, false), (16_384, false), (16_385, false), (1 << 30, true)] {
            assert_eq!(Scheme::of(classes, &gpu).long, long, "{classes}");
        }
        assert!(Scheme::of(1025, &device(true, (4, 4))).long);
        assert!(!Scheme::strided(32, &gpu).long && Scheme::strided(33, &gpu).long);
    }

    #[test]
    fn a_workgroup_is_whole_subgroups_and_whole_teams() {
        for subgroups in [(4, 4), (8, 32), (32, 32), (64, 64), (32, 128)] {
            for software in [false, true] {
                for classes in [4, 31, 64, 128, 1024, 8192, 16_384, 100_000] {
                    let scheme = Scheme::of(classes, &device(software, subgroups));
                    assert!(scheme.lanes <= MOST_LANES && scheme.lanes.is_multiple_of(scheme.team), "{scheme:?}");
                    assert!(scheme.team.is_multiple_of(scheme.together));
                    if scheme.together > 1 && !software {
                        assert!(scheme.lanes.is_multiple_of(subgroups.1), "{scheme:?} in subgroups of {subgroups:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn dispatches_cover_the_rows_and_stay_in_one_dimension() {
        let scheme = Scheme::of(10, &device(false, (32, 32)));
        assert_eq!((scheme.dispatch(0), scheme.dispatch(1), scheme.dispatch(65)), (1, 1, 2));
        for classes in [2, 10, 100, 10_000, 100_000] {
            for software in [false, true] {
                assert!(Scheme::of(classes, &device(software, (8, 8))).dispatch(usize::MAX >> 3) < 65_536);
            }
        }
    }

    #[test]
    fn parts_cover_the_row_wherever_it_begins() {
        for classes in [16_385, 65_536, 5_000_000, 1 << 30] {
            let scheme = Scheme::of(classes, &device(false, (32, 32)));
            let parts = scheme.parts(classes);
            assert!(parts <= MOST_PARTS + 1 && parts * scheme.part as usize >= classes + 3);
            assert_eq!(scheme.scratch_bytes(3, classes), 3 * (1 + parts as u64) * SLOT_BYTES);
        }
    }
}
