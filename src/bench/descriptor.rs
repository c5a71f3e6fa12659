//! What is to be measured, and on what.

use super::case::{Case, Pass, TargetKind};
use super::data::Data;
use crate::error::{Error, Result};
use crate::gpu::called;
use crate::layout::{self, Element};
use crate::loss::Input;
use crate::{AdapterSummary, Instructions, adapters_blocking};

/// Which backends are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Machines {
    /// The CPU and every adapter, software ones included.
    #[default]
    All,
    /// What [`BackendChoice::Auto`](crate::BackendChoice::Auto) takes.
    Auto,
    /// The CPU.
    Cpu,
    /// Every adapter; an error where there is none.
    Gpu,
}

/// What is measured. Every pass is combined with every kind of targets, and so on.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchDescriptor {
    /// On which backends.
    pub machines: Machines,
    /// The CPU with each of these instruction sets, as a backend each; with the fastest that it has, where there are none.
    pub instructions: Vec<Instructions>,
    /// Of the adapters the one of this name, or else those with this in their names, in upper or lower case; never the CPU then.
    pub adapter: Option<String>,
    /// Numbers of classes, at least 1 each.
    pub classes: Vec<usize>,
    /// What is computed.
    pub passes: Vec<Pass>,
    /// Kinds of targets.
    pub targets: Vec<TargetKind>,
    /// How predictions are stored.
    pub elements: Vec<Element>,
    /// What predictions are, to the categorical cross-entropy.
    pub inputs: Vec<Input>,
    /// Bytes of the predictions as float32, rounded to whole rows, at least one. 16-bit predictions are as many, in half the
    /// bytes. Unless given, as many as make it memory that is measured and not a cache: for the CPU, as the smallest element that is
    /// asked for, a quarter more than its largest caches hold together, and at least 256 MiB; 512 MiB for a GPU; 32 MiB for a software
    /// adapter; less where memory is scarce.
    pub bytes: Option<u64>,
    /// How many times each is timed at most, at least once. Medians are reported.
    pub repeat: usize,
    /// Seconds of timing on each backend, after which no round of timing begins. There is always one: of three times each,
    /// unless `repeat` is less.
    pub seconds: f64,
}

impl Default for BenchDescriptor {
    /// Every backend, pass and kind of targets over float32 and float16 logits, of 2 to 128,256 classes.
    fn default() -> Self {
        Self {
            machines: Machines::All,
            instructions: Vec::new(),
            adapter: None,
            classes: vec![2, 10, 100, 1000, 8192, 32_000, 128_256],
            passes: vec![Pass::Forward, Pass::Gradient, Pass::Both],
            targets: vec![TargetKind::Sparse, TargetKind::Dense],
            elements: vec![Element::F32, Element::F16],
            inputs: vec![Input::Logits],
            bytes: None,
            repeat: 9,
            seconds: 60.0,
        }
    }
}

impl BenchDescriptor {
    pub(super) fn validate(&self) -> Result<()> {
        let number = |option, value: usize, rule| Err(Error::Option { option, value: value as f64, rule });
        if let Some(&classes) = self.classes.iter().find(|classes| !(1..=layout::MOST_CLASSES).contains(*classes)) {
            return number("classes", classes, "there must be from 1 to 2^31");
        }
        if let Some(&classes) = self.classes.iter().max()
            && classes as u64 * 4 > super::cpu::most_bytes(self)
        {
            return number("classes", classes, super::cpu::TOO_LARGE);
        }
        if self.repeat == 0 {
            return number("repeat", 0, "it must be at least 1");
        }
        if self.bytes == Some(0) {
            return number("bytes", 0, "there must be at least 1");
        }
        super::cpu::bytes(self)?;
        if self.seconds.is_nan() || self.seconds < 0.0 {
            return Err(Error::Option { option: "seconds", value: self.seconds, rule: "it must be at least 0" });
        }
        if self.machines == Machines::Cpu && self.adapter.is_some() {
            return Err(Error::Combination("an adapter has nothing to do on the CPU backend"));
        }
        if self.instructions.iter().any(|instructions| !instructions.is_available()) {
            return Err(Error::Combination("this processor has not got the instructions that were asked for"));
        }
        Ok(())
    }

    /// Whether the CPU is measured, and which adapters are, with their places among all.
    pub(super) fn chosen(&self) -> Result<(bool, Vec<(usize, AdapterSummary)>)> {
        if self.machines == Machines::Cpu {
            return Ok((true, Vec::new()));
        }
        let all = adapters_blocking();
        let names = all.iter().map(|adapter| adapter.name.as_str()).collect::<Vec<_>>().join(", ");
        let wanted = match (&self.adapter, self.machines) {
            (Some(text), _) => called(all.iter().map(|adapter| adapter.name.as_str()), text),
            (None, Machines::Auto) => all.iter().map(|adapter| adapter.auto).collect(),
            (None, _) => vec![true; all.len()],
        };
        let adapters: Vec<_> = all.iter().cloned().enumerate().filter(|&(place, _)| wanted[place]).collect();
        if adapters.is_empty() {
            if let Some(text) = &self.adapter {
                return Err(Error::NoAdapter(format!("none is called {text:?}; there are: {names}")));
            }
            if self.machines == Machines::Gpu {
                return Err(Error::NoAdapter("no driver offers one".into()));
            }
        }
        let cpu = self.adapter.is_none()
            && (self.machines == Machines::All || self.machines == Machines::Auto && adapters.is_empty());
        if !cpu && !self.instructions.is_empty() {
            return Err(Error::Combination("instructions have nothing to do on a GPU"));
        }
        adapters.iter().try_for_each(|(_, adapter)| super::gpu::check(self, adapter))?;
        Ok((cpu, adapters))
    }

    /// Every combination, in the order in which it is reported.
    pub(super) fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &input in &self.inputs {
            for &targets in &self.targets {
                for &element in &self.elements {
                    for &classes in &self.classes {
                        cases.extend(self.passes.iter().map(|&pass| Case { pass, input, targets, element, classes }));
                    }
                }
            }
        }
        cases
    }

    /// The kinds of predictions that there are, some of them twice.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (Input, Element)> {
        let wanted = self.inputs.iter().flat_map(|&input| self.elements.iter().map(move |&element| (input, element)));
        wanted.chain([Data::FLOATS])
    }

    /// Predictions that make up `bytes` bytes of float32, or one row of the most classes.
    pub(super) fn elements(&self, bytes: u64) -> usize {
        ((bytes / size_of::<f32>() as u64) as usize).max(self.classes.iter().copied().max().unwrap_or(1))
    }
}
