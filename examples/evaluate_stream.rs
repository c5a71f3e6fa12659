//! Evaluates batches as they arrive, while the program's own work goes on in the same thread:
//! `cargo run --release --example evaluate_stream`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::future::poll_fn;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;

use ndarray::{Array1, Array2};
use xent::{Batch, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Input, Outputs, Targets};

/// A batch of logits with their labels.
type Arrival = (Array2<f32>, Array1<u32>);

/// Twenty batches from elsewhere: a network, a queue, a data loader.
fn arrivals() -> mpsc::Receiver<Arrival> {
    let (sender, receiver) = mpsc::sync_channel(2);
    std::thread::spawn(move || {
        for number in 0..20 {
            let logits =
                Array2::from_shape_fn((20_000, 100), |(row, class)| ((row * 31 + class * 17 + number) % 23) as f32 / 4.0);
            let labels = Array1::from_shape_fn(20_000, |row| (row % 100) as u32);
            if sender.send((logits, labels)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Drives a future to its end, and does a piece of other work whenever the future waits.
async fn beside<F: Future>(future: F, mut work: impl FnMut()) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => {
            work();
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

async fn run() -> xent::Result<()> {
    // A software adapter will do here: on the CPU backend there is nothing to wait for.
    let evaluator = Evaluator::new(&EvaluatorDescriptor { allow_software: true, ..Default::default() }).await?;
    let loss = CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }.into();
    let mut stream = evaluator.stream(&loss, &Outputs { losses: true, ..Default::default() });
    let mut pieces = 0_u64;
    for (number, (logits, labels)) in arrivals().into_iter().enumerate() {
        let batch = Batch::new(logits.view(), Targets::classes(labels.view()))?;
        let rows = beside(stream.push(&batch), || pieces += 1).await?;
        let worst = rows.losses.iter().copied().fold(0.0, f32::max);
        println!("batch {number}: {} rows, the worst costs {worst:.4}", rows.losses.len());
    }
    let evaluation = stream.finish();
    println!("{:?}: mean {:.6} over {} rows", evaluation.backend, evaluation.totals.mean(), evaluation.totals.rows);
    println!("{pieces} pieces of other work were done meanwhile");
    Ok(())
}

fn main() -> xent::Result<()> {
    pollster::block_on(run())
}
