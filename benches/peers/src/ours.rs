//! xent, through a stream, as one evaluates batch after batch.

use ndarray::{ArrayView1, ArrayView2};
use xent::{
    Backend, BackendChoice, Batch, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Gradient, Input, Loss, Outputs,
    Stream, Targets,
};

use crate::contestant::{Contestant, Loaded, Pass, Result};
use crate::data::Data;

pub struct Ours {
    evaluator: Evaluator,
    device: String,
}

impl Ours {
    pub fn cpu() -> Result<Self> {
        let descriptor = EvaluatorDescriptor { backend: BackendChoice::Cpu, ..Default::default() };
        Ok(Self { evaluator: Evaluator::new_blocking(&descriptor)?, device: "cpu".into() })
    }

    /// On an adapter, by a part of its name. Logits come from the host's memory and results return there.
    pub fn gpu(adapter: Option<&str>) -> Result<Self> {
        let adapter = adapter.map(Into::into);
        let descriptor = EvaluatorDescriptor { backend: BackendChoice::Gpu, adapter, ..Default::default() };
        let evaluator = Evaluator::new_blocking(&descriptor)?;
        let Backend::Gpu { adapter, .. } = evaluator.backend() else { return Err("a GPU was demanded".into()) };
        Ok(Self { evaluator, device: format!("{adapter}, from the host") })
    }

    /// The adapter's name and driver; none on the CPU.
    pub fn adapter(&self) -> Option<(String, String)> {
        match self.evaluator.backend() {
            Backend::Gpu { adapter, driver } => Some((adapter, driver)),
            _ => None,
        }
    }
}

impl Contestant for Ours {
    fn name(&self) -> &'static str {
        "xent"
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn load<'a>(&'a self, data: &'a Data, pass: Pass) -> Result<Box<dyn Loaded + 'a>> {
        let logits = ArrayView2::from_shape((data.rows, data.classes), &data.logits)?;
        let batch = Batch::new(logits, Targets::classes(ArrayView1::from(&data.labels)))?;
        let loss = CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }.into();
        let gradient = (pass == Pass::Both).then_some(Gradient::Scaled(1.0 / data.rows as f64));
        let outputs = Outputs { accuracy: false, gradient, ..Default::default() };
        let stream = self.evaluator.stream(&loss, &outputs);
        Ok(Box::new(Running { evaluator: &self.evaluator, loss, outputs, stream, batch }))
    }
}

struct Running<'a> {
    evaluator: &'a Evaluator,
    loss: Loss,
    outputs: Outputs,
    stream: Stream<'a>,
    batch: Batch<'a>,
}

impl Loaded for Running<'_> {
    fn run(&mut self) -> Result<()> {
        self.stream.push_blocking(&self.batch)?;
        Ok(())
    }

    /// Over all runs so far, which is that of one.
    fn mean(&mut self) -> Result<f64> {
        let next = self.evaluator.stream(&self.loss, &self.outputs);
        Ok(std::mem::replace(&mut self.stream, next).finish().totals.mean())
    }

    fn gradient(&mut self) -> Result<Vec<f32>> {
        Ok(self.stream.push_blocking(&self.batch)?.gradient.to_vec())
    }
}
