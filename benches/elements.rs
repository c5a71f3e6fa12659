//! Predictions of 16 bits beside those of 32: `cargo bench --bench elements`. See README.md beside this file.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use support::Pass;
use support::rows::Element;

fn elements(criterion: &mut Criterion) {
    for place in support::places() {
        for pass in [Pass::Forward, Pass::Gradient] {
            for element in [Element::F32, Element::F16, Element::Bf16] {
                support::bench_classes(criterion, pass, support::logits(false, element), &place);
            }
        }
    }
}

criterion_group!(benches, elements);
criterion_main!(benches);
