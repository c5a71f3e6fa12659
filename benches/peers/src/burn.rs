//! burn: its `CrossEntropyLoss`, on the CPU and through wgpu.

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, DeviceType, Int, Tensor, TensorData};

use crate::contestant::{Contestant, Loaded, Pass, Result};
use crate::data::Data;

pub struct Burn {
    device: Device,
    name: String,
    /// Logits come from the host's memory in each run, and a gradient returns there.
    from_host: bool,
}

impl Burn {
    /// On the CPU, with SIMD and threads.
    pub fn flex() -> Self {
        Self { device: Device::flex(), name: "cpu, flex".into(), from_host: false }
    }

    /// On the CPU, through ndarray.
    #[expect(deprecated, reason = "burn's CPU backend until lately, and the one that others have measured")]
    pub fn ndarray() -> Self {
        Self { device: Device::ndarray(), name: "cpu, ndarray".into(), from_host: false }
    }

    /// On an adapter, by its name: once with the logits on the device, and once from the host's memory, as xent takes them.
    pub fn wgpu(adapter: &str) -> Result<[Self; 2]> {
        let devices = Device::enumerate(DeviceType::Wgpu).into_vec();
        let named = |device: &Device| device.identity().is_some_and(|identity| identity.name == adapter);
        let device = devices.into_iter().find(named).ok_or_else(|| format!("burn does not find the adapter {adapter}"))?;
        let host = Self { device: device.clone(), name: format!("{adapter}, from the host"), from_host: true };
        Ok([Self { device, name: format!("{adapter}, on the device"), from_host: false }, host])
    }
}

impl Contestant for Burn {
    fn name(&self) -> &'static str {
        "burn"
    }

    fn device(&self) -> &str {
        &self.name
    }

    fn load<'a>(&'a self, data: &'a Data, pass: Pass) -> Result<Box<dyn Loaded + 'a>> {
        let mut running = Running { burn: self, data, pass, resident: None, mean: f64::NAN, gradient: None, read: Vec::new() };
        if !self.from_host {
            running.resident = Some(running.upload());
            self.device.sync().map_err(|error| format!("{error:?}"))?;
        }
        Ok(Box::new(running))
    }
}

struct Running<'a> {
    burn: &'a Burn,
    data: &'a Data,
    pass: Pass,
    resident: Option<(Tensor<2>, Tensor<1, Int>)>,
    mean: f64,
    gradient: Option<Tensor<2>>,
    /// The gradient in the host's memory, where that belongs to a run.
    read: Vec<f32>,
}

impl Running<'_> {
    fn upload(&self) -> (Tensor<2>, Tensor<1, Int>) {
        let Data { rows, classes, .. } = *self.data;
        let device = &self.burn.device;
        let logits = TensorData::new(self.data.logits.clone(), [rows, classes]);
        let labels = TensorData::new(self.data.labels.iter().map(|&label| label as i32).collect(), [rows]);
        (Tensor::from_data(logits, device), Tensor::from_data(labels, device))
    }
}

impl Loaded for Running<'_> {
    fn run(&mut self) -> Result<()> {
        let (logits, labels) = self.resident.clone().unwrap_or_else(|| self.upload());
        let loss = CrossEntropyLossConfig::new().init(&self.burn.device);
        // What an earlier run left behind, as an optimiser would have.
        self.gradient = None;
        match self.pass {
            Pass::Forward => self.mean = f64::from(loss.forward(logits, labels).try_into_scalar::<f32>().map_err(text)?),
            Pass::Both => {
                let logits = logits.autodiff().require_grad();
                let loss = loss.forward(logits.clone(), labels.autodiff());
                let gradients = loss.backward();
                self.gradient = logits.grad(&gradients);
                self.mean = f64::from(loss.try_into_scalar::<f32>().map_err(text)?);
                self.burn.device.sync().map_err(text)?;
                if self.burn.from_host {
                    self.read = self.read_gradient()?;
                }
            }
        }
        Ok(())
    }

    fn mean(&mut self) -> Result<f64> {
        Ok(self.mean)
    }

    fn gradient(&mut self) -> Result<Vec<f32>> {
        self.read_gradient()
    }
}

impl Running<'_> {
    fn read_gradient(&self) -> Result<Vec<f32>> {
        let gradient = self.gradient.clone().ok_or("no gradient")?;
        Ok(gradient.into_data().try_into_vec().map_err(text)?)
    }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
