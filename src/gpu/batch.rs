//! What comes before and after the rows of a batch: scales of gradients, totals, status, and outputs apart from each other.

use super::pipelines::{Access, in_arena};
use crate::layout::{BAD, IGNORED, RANK_FIRST, Wanted};
use crate::totals::Reduction;

/// The most parts that a batch is summed in: `PARTS` in `shaders/batch/partials.wgsl`.
const PARTS: usize = 256;
/// Lanes of a workgroup: `LANES` there.
const LANES: usize = 64;
/// Words that what the parts add up to takes.
pub(super) const PARTIAL_WORDS: usize = PARTS * 9;
/// The most workgroups that go over rows in turns.
const TURNS: usize = 1024;

/// What a batch adds up to, as a kernel writes it: 32 bytes, in the order of the fields.
///
/// Sums are float32, added in a fixed tree over the rows that their number alone decides. Counts stop at 2³² − 1.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TotalsWords {
    /// The reduced loss; 0 when no row was kept.
    pub loss: f32,
    /// Σ s·l: losses times sample weights.
    pub sum: f32,
    /// Σ s·v: sample weights times the class weights of the labels, of rows that are kept.
    pub weight: f32,
    /// Rows seen.
    pub rows: u32,
    /// Rows that are not ignored.
    pub kept: u32,
    /// Kept rows whose label is the first of the row's maxima; 0 where accuracy was not asked for.
    pub correct: u32,
    /// For accumulation: bit 0, a NaN was among the losses; bit 1, +∞; bit 2, −∞.
    pub special: u32,
    /// For accumulation: the sum of the finite losses.
    pub finite: f32,
}

/// What a kernel saw of the data, which nobody on the host looks at: 20 bytes, in the order of the fields.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct StatusWords {
    /// Rows whose class index is not among the classes, and not the ignored one. Their loss and gradient are NaN.
    pub bad_labels: u32,
    /// The first of them, counted from the first row since the status was zero. It means nothing where there is none.
    pub first_bad_row: u32,
    /// Its class index, as it was given.
    pub first_bad_label: u32,
    /// Rows whose loss is NaN or infinite, those with a bad label among them.
    pub non_finite: u32,
    /// Rows seen.
    pub rows: u32,
}

/// The functions of `shaders/batch/`, a file each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    WeighParts,
    WriteScales,
    SumParts,
    SumAll,
    GiveRows,
}

/// What a pipeline over the rows of a batch is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a buffer that is bound or not")]
pub(crate) struct BatchKey {
    pub entry: Entry,
    pub dense: bool,
    pub class_weights: bool,
    pub sample_weights: bool,
    pub wanted: Wanted,
    /// Of the totals; of the gradient where scales are written.
    pub reduction: Reduction,
    pub losses: bool,
    pub logsumexp: bool,
    pub totals: bool,
    pub status: bool,
    pub accumulates: bool,
    pub arena: bool,
}

/// The bindings by name, with their numbers: those of `layout::BINDINGS`, and others.
pub(super) const NUMBERS: [(&str, u32); 12] = [
    ("params", 0),
    ("targets", 2),
    ("class_weights", 3),
    ("records", 5),
    ("caller", 8),
    ("sample_weights", 9),
    ("partials", 10),
    ("losses", 11),
    ("logsumexp", 12),
    ("totals", 13),
    ("status", 14),
    ("row_scales", 15),
];

impl BatchKey {
    pub(super) fn entry(&self) -> &'static str {
        match self.entry {
            Entry::WeighParts => "weigh_parts",
            Entry::WriteScales => "write_scales",
            Entry::SumParts => "sum_parts",
            Entry::SumAll => "sum_all",
            Entry::GiveRows => "give_rows",
        }
    }

    /// Workgroups for `rows` rows.
    pub(super) fn workgroups(&self, rows: usize) -> u32 {
        let turns = rows.div_ceil(LANES).max(1);
        (match self.entry {
            Entry::WeighParts | Entry::SumParts => turns.min(PARTS),
            Entry::WriteScales | Entry::GiveRows => turns.min(TURNS),
            Entry::SumAll => 1,
        }) as u32
    }

    /// Whether the function binds what has this name.
    pub(super) fn binds(&self, name: &str) -> bool {
        let weighs = self.reduction == Reduction::WeightedMean;
        match (self.entry, name) {
            (Entry::WeighParts | Entry::SumParts, "targets") => !self.dense,
            (Entry::WeighParts, "class_weights") => self.class_weights && !self.dense && weighs,
            (Entry::SumParts, "class_weights") => self.class_weights && !self.dense,
            (Entry::WeighParts, "sample_weights") => self.sample_weights && weighs,
            (Entry::SumParts | Entry::WriteScales, "sample_weights") => self.sample_weights,
            (Entry::SumAll, "totals") => self.totals,
            (Entry::SumAll, "status") => self.status,
            (Entry::GiveRows, "losses") => self.losses,
            (Entry::GiveRows, "logsumexp") => self.logsumexp,
            (entry, "partials") => entry != Entry::GiveRows,
            (entry, "records") => matches!(entry, Entry::SumParts | Entry::GiveRows),
            (entry, "row_scales") => entry == Entry::WriteScales,
            (_, name) => matches!(name, "params" | "caller"),
        }
    }

    pub(super) fn bindings(&self) -> Vec<(u32, Access)> {
        NUMBERS
            .iter()
            .filter(|(name, _)| self.binds(name))
            .map(|&(name, number)| {
                let access = match name {
                    "params" | "caller" => Access::Uniform,
                    "targets" | "class_weights" | "sample_weights" if !self.arena => Access::Read,
                    _ => Access::Write,
                };
                (number, access)
            })
            .collect()
    }

    pub(super) fn source(&self) -> String {
        // What is bound, or what stands in for it.
        macro_rules! either {
            ($name:literal, $there:literal, $missing:literal) => {
                if self.binds($name) {
                    include_str!(concat!("../../shaders/", $there, ".wgsl"))
                } else {
                    include_str!(concat!("../../shaders/", $missing, ".wgsl"))
                }
            };
        }
        let mut parts = vec![include_str!("../../shaders/params.wgsl")];
        if matches!(self.entry, Entry::WeighParts | Entry::SumParts) {
            parts.push(either!("class_weights", "bindings/class_weights", "bindings/no_class_weights"));
            parts.push(either!("targets", "labels", "bindings/no_targets"));
            parts.push(if self.binds("targets") {
                include_str!("../../shaders/bindings/targets.wgsl")
            } else {
                "override IGNORED: u32;\n"
            });
        }
        let partials = include_str!("../../shaders/batch/partials.wgsl");
        let fold = include_str!("../../shaders/batch/fold.wgsl");
        match self.entry {
            Entry::WeighParts => {
                parts.push(either!("sample_weights", "bindings/sample_weights", "bindings/no_sample_weights"));
                parts.extend([partials, fold, include_str!("../../shaders/batch/weigh_parts.wgsl")]);
            }
            Entry::SumParts => {
                parts.push(either!("sample_weights", "bindings/sample_weights", "bindings/no_sample_weights"));
                parts.push(include_str!("../../shaders/bindings/records.wgsl"));
                parts.extend([partials, fold, include_str!("../../shaders/batch/sum_parts.wgsl")]);
            }
            Entry::WriteScales => {
                parts.push(either!("sample_weights", "bindings/sample_weights", "bindings/no_sample_weights"));
                parts.push(partials);
                parts.push(include_str!("../../shaders/batch/write_scales.wgsl"));
            }
            Entry::SumAll => {
                parts.push(partials);
                parts.push(either!("totals", "batch/totals", "batch/no_totals"));
                parts.push(either!("status", "batch/status", "batch/no_status"));
                parts.push(include_str!("../../shaders/batch/sum_all.wgsl"));
            }
            Entry::GiveRows => {
                parts.push(include_str!("../../shaders/bindings/records.wgsl"));
                parts.push(either!("losses", "batch/losses", "batch/no_losses"));
                parts.push(either!("logsumexp", "batch/logsumexp", "batch/no_logsumexp"));
                parts.push(include_str!("../../shaders/batch/give_rows.wgsl"));
            }
        }
        in_arena(parts.join("\n"), self.arena)
    }

    pub(super) fn overrides(&self) -> Vec<(&'static str, f64)> {
        let flag = |flag: bool| f64::from(u8::from(flag));
        let wanted = self.wanted;
        let fields = ("FIELDS", f64::from(wanted.fields()));
        let by_weight = ("BY_WEIGHT", flag(self.reduction == Reduction::WeightedMean));
        let ignored = ("IGNORED", f64::from(IGNORED));
        let mut constants = match self.entry {
            Entry::WeighParts => vec![ignored, by_weight],
            Entry::WriteScales => vec![by_weight],
            Entry::SumParts => vec![
                ignored,
                fields,
                ("RANKED", flag(wanted.ranks)),
                ("RANK_FIELD", f64::from(Wanted::RANK_FIELD)),
                ("RANK_FIRST", f64::from(RANK_FIRST)),
            ],
            Entry::SumAll => {
                let reduction = match self.reduction {
                    Reduction::Sum => 0.0,
                    Reduction::Mean => 1.0,
                    Reduction::WeightedMean => 2.0,
                };
                vec![("REDUCTION", reduction), ("ACCUMULATES", flag(self.accumulates))]
            }
            Entry::GiveRows => vec![fields, ("LOGSUMEXP_FIELD", f64::from(wanted.logsumexp_field()))],
        };
        if self.binds("targets") {
            constants.push(("BAD", f64::from(BAD)));
        }
        constants
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::layout::BINDINGS;

    fn keys() -> impl Iterator<Item = BatchKey> {
        let entries = [Entry::WeighParts, Entry::WriteScales, Entry::SumParts, Entry::SumAll, Entry::GiveRows];
        entries.into_iter().flat_map(|entry| {
            (0..1 << 8_u32).map(move |bits| {
                let flag = |place: u32| bits >> place & 1 == 1;
                BatchKey {
                    entry,
                    dense: flag(0),
                    class_weights: flag(1),
                    sample_weights: flag(2),
                    wanted: Wanted { ranks: flag(3), logsumexp: flag(4), ..Wanted::default() },
                    reduction: [Reduction::Mean, Reduction::WeightedMean][usize::from(flag(5))],
                    losses: flag(3),
                    logsumexp: flag(4),
                    totals: flag(6),
                    status: flag(7),
                    accumulates: flag(1),
                    arena: flag(2),
                }
            })
        })
    }

    #[test]
    fn every_shader_is_valid_and_binds_what_its_layout_has() {
        for key in keys() {
            let text = key.source();
            let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
            let (flags, capabilities) = (naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty());
            let info = naga::valid::Validator::new(flags, capabilities).validate(&module);
            let info = info.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
            let declared: BTreeSet<_> = module.overrides.iter().filter_map(|(_, constant)| constant.name.clone()).collect();
            let given: BTreeSet<_> = key.overrides().into_iter().map(|(name, _)| name.to_owned()).collect();
            assert_eq!(declared, given, "{key:?}");
            assert!(module.overrides.iter().all(|(_, constant)| constant.init.is_none()), "an override has a default");
            let pruned = crate::gpu::pruned(&module, &info, key.entry(), &key.overrides());
            let pruned = pruned.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
            let valid = naga::valid::Validator::new(flags, capabilities).validate(&pruned);
            valid.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
            let entry = module.entry_points.iter().position(|entry| entry.name == key.entry()).expect("the function is there");
            let used = module.global_variables.iter().filter_map(|(handle, variable)| {
                let binding = variable.binding.as_ref()?.binding;
                (!info.get_entry_point(entry)[handle].is_empty()).then_some(binding)
            });
            let bound: BTreeSet<_> = key.bindings().into_iter().map(|(binding, _)| binding).collect();
            assert!(used.collect::<BTreeSet<_>>().is_subset(&bound), "{key:?}");
            // With the uniform ones: WebGPU promises eight storage buffers.
            assert!(bound.len() <= 8 + 2, "{key:?}");
        }
    }

    #[test]
    fn what_both_kinds_of_kernels_bind_has_one_number() {
        for (name, number) in NUMBERS {
            let place = BINDINGS.iter().position(|binding| *binding == name);
            assert!(name == "row_scales" || place.is_none_or(|place| place == number as usize), "{name}");
        }
    }

    #[test]
    fn words_lie_as_the_shaders_write_them() {
        assert_eq!((size_of::<TotalsWords>(), size_of::<StatusWords>()), (32, 20));
        assert_eq!(std::mem::offset_of!(TotalsWords, finite), 7 * 4);
        assert_eq!(std::mem::offset_of!(StatusWords, rows), 4 * 4);
        let text = include_str!("../../shaders/batch/partials.wgsl");
        for line in [format!("const LANES: u32 = {LANES}u;"), format!("const PARTIAL_WORDS: u32 = {}u;", PARTIAL_WORDS / PARTS)]
        {
            assert!(text.contains(&line), "{line}");
        }
        assert!(text.contains("const PARTS: u32 = 4u * LANES;") && PARTS == 4 * LANES);
    }
}
