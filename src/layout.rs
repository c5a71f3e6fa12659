//! What kernels read and write, and the choices that they are compiled with. Twin: `shaders/layout.wgsl`.

use crate::cpu::math;
use crate::loss::Prepared;

/// The class index of a row that does not count.
pub(crate) const IGNORED: u32 = u32::MAX;
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
    pub keep: f32,
    pub spread: f32,
}

impl Params {
    /// The parameters of `rows` rows that begin `first` elements into their first 16-byte word.
    pub(crate) fn new(prepared: &Prepared, rows: u32, first: u32) -> Self {
        Self {
            rows,
            classes: prepared.classes as u32,
            first,
            nearest: prepared.nearest,
            farthest: prepared.farthest,
            lowest: prepared.lowest,
            keep: prepared.keep,
            spread: prepared.spread,
        }
    }
}

/// The bindings of group 0, in the order of their numbers.
pub(crate) const BINDINGS: [&str; 6] = ["params", "predictions", "targets", "class_weights", "losses", "ranks"];

/// What a pipeline is compiled for.
#[expect(clippy::struct_excessive_bools, reason = "each is one override of the shaders")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    pub dense: bool,
    pub spread: bool,
    pub weighted: bool,
    pub ranked: bool,
    pub lanes: u32,
}

impl Variant {
    /// Every override constant that the shaders declare. None has a default there, so that a missing one is an error.
    pub(crate) fn overrides(self) -> Vec<(&'static str, f64)> {
        let mut all = vec![
            ("DENSE", f64::from(u8::from(self.dense))),
            ("SPREAD", f64::from(u8::from(self.spread))),
            ("WEIGHTED", f64::from(u8::from(self.weighted))),
            ("RANKED", f64::from(u8::from(self.ranked))),
            ("LANES", f64::from(self.lanes)),
            ("IGNORED", f64::from(IGNORED)),
            ("RANK_NAN", f64::from(RANK_NAN)),
            ("RANK_FIRST", f64::from(RANK_FIRST)),
        ];
        all.extend(math::constants().map(|(name, value)| (name, f64::from(value))));
        all
    }
}
