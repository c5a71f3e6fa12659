//! Measures candle and burn side by side with xent: same data, same run, everyone's answer checked against float64.

mod bandwidth;
mod burn;
mod candle;
mod contestant;
mod data;
mod measure;
mod ours;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use contestant::{Contestant, Pass, Result};

const USAGE: &str = "\
usage: xent-peers [--devices cpu|gpu|all] [--adapter NAME] [--passes forward,both] [--classes 2,10,…]
                  [--elements N] [--rounds N] [--json FILE]

  --devices   what to measure (default: all)
  --adapter   part of the name of the adapter to take (default: the one that xent chooses)
  --passes    forward: the mean loss; both: the loss and its gradient (default: forward,both)
  --classes   (default: 2,10,100,1000,8192,32000,128256)
  --elements  logits of a batch (default: 16777216)
  --rounds    runs of each; one that has had 2 seconds and 3 runs is left out of the rest (default: 9)
  --json      where the raw results go";

struct Options {
    cpu: bool,
    gpu: bool,
    adapter: Option<String>,
    passes: Vec<Pass>,
    classes: Vec<usize>,
    elements: usize,
    rounds: usize,
    json: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            cpu: true,
            gpu: true,
            adapter: None,
            passes: Pass::ALL.into(),
            classes: vec![2, 10, 100, 1000, 8192, 32_000, 128_256],
            elements: 1 << 24,
            rounds: 9,
            json: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("what about {name}?"))?;
            match name.as_str() {
                "--devices" => {
                    (options.cpu, options.gpu) = match value.as_str() {
                        "cpu" => (true, false),
                        "gpu" => (false, true),
                        "all" => (true, true),
                        _ => return Err(format!("--devices {value}: cpu, gpu or all").into()),
                    }
                }
                "--adapter" => options.adapter = Some(value),
                "--passes" => {
                    let pass = |name: &str| Pass::ALL.into_iter().find(|pass| pass.name() == name);
                    options.passes = value
                        .split(',')
                        .map(|name| pass(name).ok_or_else(|| format!("--passes {value}: forward or both")))
                        .collect::<std::result::Result<_, _>>()?;
                }
                "--classes" => options.classes = value.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?,
                "--elements" => options.elements = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                "--json" => options.json = Some(value.into()),
                _ => return Err(format!("{name} is not an option").into()),
            }
        }
        if options.classes.contains(&0) || options.rounds == 0 {
            return Err("classes and rounds are at least 1".into());
        }
        Ok(options)
    }
}

fn run(options: &Options) -> Result<()> {
    let mut contestants: Vec<Box<dyn Contestant>> = Vec::new();
    let mut machine = report::Machine { adapter: None };
    if options.cpu {
        contestants.push(Box::new(ours::Ours::cpu()?));
        contestants.push(Box::new(candle::Candle));
        contestants.push(Box::new(burn::Burn::flex()));
        contestants.push(Box::new(burn::Burn::ndarray()));
    }
    if options.gpu {
        let ours = ours::Ours::gpu(options.adapter.as_deref())?;
        machine.adapter = ours.adapter();
        let (name, _) = machine.adapter.as_ref().ok_or("a GPU was demanded")?;
        let [device, host] = burn::Burn::wgpu(name)?;
        contestants.push(Box::new(ours));
        contestants.push(Box::new(device));
        contestants.push(Box::new(host));
    }
    let mut comparisons = Vec::new();
    let mut ours_wrong = false;
    for &classes in &options.classes {
        let data = data::Data::new(classes, options.elements);
        for &pass in &options.passes {
            let comparison = measure::compare(&contestants, &data, pass, options.rounds);
            report::print(&comparison);
            ours_wrong |= comparison.outcomes.iter().any(|outcome| outcome.name == "xent" && !outcome.correct());
            comparisons.push(comparison);
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", report::json(&machine, &comparisons)))?;
    }
    if ours_wrong { Err("an answer of xent's is wrong".into()) } else { Ok(()) }
}

fn main() -> ExitCode {
    let result = Options::parse().map_err(|error| format!("{error}\n\n{USAGE}").into()).and_then(|options| run(&options));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
