//! The mean loss alone: `cargo bench --bench forward`. See README.md beside this file.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::Pass;
use support::rows::{Element, Kind};
use xent::Input;

fn forward(criterion: &mut Criterion) {
    for place in support::places() {
        for input in [Input::Logits, Input::Probabilities] {
            for dense in [false, true] {
                let kind = Kind { input, dense, element: Element::F32 };
                support::bench_classes(criterion, Pass::Forward, kind, &place);
            }
        }
    }
}

criterion_group!(benches, forward);
criterion_main!(benches);
