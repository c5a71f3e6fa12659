//! The gradient by logits, without and with the losses of rows: `cargo bench --bench gradient`. See README.md beside this file.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::Pass;
use support::rows::Element;

fn gradient(criterion: &mut Criterion) {
    for place in support::places() {
        for pass in [Pass::Gradient, Pass::Both] {
            for dense in [false, true] {
                support::bench_classes(criterion, pass, support::logits(dense, Element::F32), &place);
            }
        }
    }
}

criterion_group!(benches, gradient);
criterion_main!(benches);
