//! What kernels read and write, and the choices that they are compiled with. Twin: `shaders/layout.wgsl`.

use crate::cpu::math;
use crate::loss::Prepared;
use crate::plan::{Driver, Scheme};

/// Classes that a row may have: labels and what marks them are 32 bits, ranks 31.
pub const MOST_CLASSES: usize = 1 << 31;
/// The class index of a row that does not count.
pub(crate) const IGNORED: u32 = u32::MAX;
/// A class index that is none, where what was given looks like [`IGNORED`].
pub(crate) const BAD: u32 = u32::MAX - 1;
/// The rank of a row that holds a NaN: not among the first k for any k.
pub(crate) const RANK_NAN: u32 = 0x7fff_ffff;
/// Set in a rank when the label is the first of the row's maxima. The other bits count the classes above the label.
pub(crate) const RANK_FIRST: u32 = 0x8000_0000;

/// The uniform parameters of a window, as the shaders see them.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    pub rows: u32,
    pub classes: u32,
    pub first: u32,
    pub nearest: f32,
    pub farthest: f32,
    pub lowest: f32,
    pub highest: f32,
    pub keep: f32,
    pub spread: f32,
    pub gamma: f32,
    pub alpha: f32,
    pub poly: f32,
    pub z_loss: f32,
    pub sharpness: f32,
    pub sharpness_lost: f32,
    pub softcap: f32,
    pub share: f32,
    pub inner: u32,
    pub parts: u32,
    pub first_part: u32,
    pub part_count: u32,
    pub scale: f32,
    pub divided: u32,
    pub ignored: u32,
    pub ignores: u32,
    pub fused: f32,
    pub fused_square: f32,
    pub round_up: f32,
    pub round_down: f32,
    pub halves: u32,
}

impl Params {
    /// The parameters of `rows` rows that begin `first` elements into their first 16-byte word, have `parts` parts, all of them
    /// in the window, and neighbouring classes `inner` elements apart.
    pub(crate) fn new(prepared: &Prepared, rows: u32, first: u32, parts: u32, inner: u32) -> Self {
        Self {
            rows,
            classes: prepared.classes as u32,
            first,
            nearest: prepared.nearest,
            farthest: prepared.farthest,
            lowest: prepared.lowest,
            highest: prepared.highest,
            keep: prepared.keep,
            spread: prepared.spread,
            gamma: prepared.gamma,
            alpha: prepared.alpha,
            poly: prepared.poly,
            z_loss: prepared.z_loss,
            sharpness: prepared.sharpness,
            sharpness_lost: prepared.sharpness_lost,
            softcap: prepared.softcap,
            share: prepared.share,
            inner,
            parts,
            first_part: 0,
            part_count: parts,
            // The host has scales a row, and labels that are classes or IGNORED.
            scale: 1.0,
            divided: 0,
            ignored: IGNORED,
            ignores: 1,
            // Its square needs 2^-24 besides, which a product that is rounded by itself has no place for.
            fused: 1.0 + 1.0 / 4096.0,
            fused_square: 1.0 + 1.0 / 2048.0,
            // 1.5·2^23, twice: no compiler may take one from the other.
            round_up: 12_582_912.0,
            round_down: 12_582_912.0,
            // 2^-24 and infinity as float16.
            halves: 0x7c00_0001,
        }
    }
}

/// What may change from one submission to the next without the host: 16 bytes of a uniform buffer.
///
/// | bytes | type | what |
/// | --- | --- | --- |
/// | 0–3 | u32 | rows, of those that were bound: more are taken as so many |
/// | 4–7 | f32 | what every gradient is multiplied with, besides the kernel's own scale: a loss scale, 1 / accumulated batches |
/// | 8–15 | | nothing |
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// Rows, of those that were bound.
    pub rows: u32,
    /// What every gradient is multiplied with.
    pub scale: f32,
    /// Nothing.
    pub unused: [u32; 2],
}

impl Default for Step {
    /// All rows, and a scale of 1.
    fn default() -> Self {
        Self { rows: u32::MAX, scale: 1.0, unused: [0; 2] }
    }
}

/// The bindings of group 0, in the order of their numbers.
pub(crate) const BINDINGS: [&str; 9] =
    ["params", "predictions", "targets", "class_weights", "row_scales", "records", "gradients", "scratch", "caller"];

/// What is to be written of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an output of its own")]
pub(crate) struct Wanted {
    pub ranks: bool,
    pub logsumexp: bool,
    /// Plain cross-entropy, entropy, Brier score and confidence.
    pub calibration: bool,
    pub gradient: bool,
}

impl Wanted {
    /// Values of a row's record: the loss, then what is wanted of the rest.
    pub(crate) fn fields(self) -> u32 {
        1 + u32::from(self.ranks) + u32::from(self.logsumexp) + 4 * u32::from(self.calibration)
    }

    /// The place of the rank in a record, if it is wanted; of the others below likewise.
    pub(crate) const RANK_FIELD: u32 = 1;

    pub(crate) fn logsumexp_field(self) -> u32 {
        1 + u32::from(self.ranks)
    }

    /// Of the four values of calibration in their order.
    pub(crate) fn calibration_field(self) -> u32 {
        self.logsumexp_field() + u32::from(self.logsumexp)
    }
}

/// How predictions are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Element {
    /// float32.
    #[default]
    F32,
    /// float16.
    F16,
    /// bfloat16.
    Bf16,
}

impl Element {
    /// Bytes of a prediction.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// What a pipeline is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is one override of the shaders")]
pub(crate) struct Variant {
    pub dense: bool,
    pub spread: bool,
    pub closed: bool,
    pub weighted: bool,
    pub moved: bool,
    pub element: Element,
    pub wanted: Wanted,
    pub strided: bool,
    pub aligned: bool,
    /// Each row's gradient has a factor of its own.
    pub row_scales: bool,
    /// The gradient takes the place of the predictions.
    pub in_place: bool,
    /// What is read may lie in buffers that are written too.
    pub arena: bool,
    pub scheme: Scheme,
}

impl Variant {
    /// Whether a kernel binds what [`BINDINGS`] has at this place.
    pub(crate) fn binds(self, binding: usize) -> bool {
        match BINDINGS[binding] {
            "predictions" => !self.in_place,
            "class_weights" => self.weighted,
            "row_scales" => self.wanted.gradient && self.row_scales,
            "gradients" => self.wanted.gradient,
            "scratch" => self.scheme.part > 0,
            _ => true,
        }
    }

    /// Whether a word of the gradient may have elements of rows that are written side by side. A lane by itself has whole words of
    /// rows that lie one after the other, and so has a tile.
    pub(crate) fn shares_words(self) -> bool {
        !self.aligned && (self.strided || self.scheme.driver.is_team())
    }

    /// Every override constant that the shaders declare. None has a default there, so that a missing one is an error.
    pub(crate) fn overrides(self) -> Vec<(&'static str, f64)> {
        let wanted = self.wanted;
        let flags = [
            ("DENSE", self.dense),
            ("SPREAD", self.spread),
            ("CLOSED", self.closed),
            ("WEIGHTED", self.weighted),
            ("MOVED", self.moved),
            ("BRAIN", self.element == Element::Bf16),
            ("GRADIENT", wanted.gradient),
            ("RANKED", wanted.ranks),
            ("LOGSUMEXP", wanted.logsumexp),
            ("CALIBRATED", wanted.calibration),
            ("STRIDED", self.strided),
            ("ALIGNED", self.aligned),
            ("APART", self.scheme.driver == Driver::Lane),
            ("LONG", self.scheme.long),
        ];
        let numbers = [
            ("NARROW", self.scheme.narrow),
            ("LANES", self.scheme.lanes),
            ("TEAM", self.scheme.team),
            ("TOGETHER", self.scheme.together),
            ("PART", self.scheme.part),
            ("IGNORED", IGNORED),
            ("BAD", BAD),
            ("RANK_NAN", RANK_NAN),
            ("RANK_FIRST", RANK_FIRST),
            ("FIELDS", wanted.fields()),
            ("RANK_FIELD", Wanted::RANK_FIELD),
            ("LOGSUMEXP_FIELD", wanted.logsumexp_field()),
            ("PLAIN_FIELD", wanted.calibration_field()),
            ("ENTROPY_FIELD", wanted.calibration_field() + 1),
            ("BRIER_FIELD", wanted.calibration_field() + 2),
            ("CONFIDENCE_FIELD", wanted.calibration_field() + 3),
        ];
        let flags = flags.into_iter().map(|(name, flag)| (name, f64::from(u8::from(flag))));
        let numbers = numbers.into_iter().map(|(name, number)| (name, f64::from(number)));
        flags.chain(numbers).chain(math::constants().map(|(name, value)| (name, f64::from(value)))).collect()
    }
}
