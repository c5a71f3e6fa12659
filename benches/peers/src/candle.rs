//! candle: `candle_nn::loss::cross_entropy` on the CPU.

use candle_core::{Device, Tensor, Var};

use crate::contestant::{Contestant, Loaded, Pass, Result};
use crate::data::Data;

pub struct Candle;

impl Contestant for Candle {
    fn name(&self) -> &'static str {
        "candle-nn"
    }

    fn device(&self) -> &str {
        "cpu"
    }

    fn load<'a>(&'a self, data: &'a Data, pass: Pass) -> Result<Box<dyn Loaded + 'a>> {
        let logits = Tensor::from_slice(&data.logits, (data.rows, data.classes), &Device::Cpu)?;
        let labels = Tensor::from_slice(&data.labels, data.rows, &Device::Cpu)?;
        // Of what is no variable nothing is kept for a gradient.
        let variable = (pass == Pass::Both).then(|| Var::from_tensor(&logits)).transpose()?;
        Ok(Box::new(Running { logits, labels, variable, mean: f64::NAN, gradient: None }))
    }
}

struct Running {
    logits: Tensor,
    labels: Tensor,
    variable: Option<Var>,
    mean: f64,
    gradient: Option<Tensor>,
}

impl Loaded for Running {
    fn run(&mut self) -> Result<()> {
        let logits = self.variable.as_deref().unwrap_or(&self.logits);
        let loss = candle_nn::loss::cross_entropy(logits, &self.labels)?;
        if self.variable.is_some() {
            self.gradient = loss.backward()?.remove(logits);
        }
        self.mean = loss.to_scalar::<f32>()?.into();
        Ok(())
    }

    fn mean(&mut self) -> Result<f64> {
        Ok(self.mean)
    }

    fn gradient(&mut self) -> Result<Vec<f32>> {
        let gradient = self.gradient.as_ref().ok_or("no gradient")?;
        Ok(gradient.flatten_all()?.to_vec1()?)
    }
}
