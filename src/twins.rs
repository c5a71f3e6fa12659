//! The shaders against their Rust twins: layouts, names, constants, and every combination that can be built.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;

use crate::gpu::{Key, source};
use crate::layout::{BINDINGS, Params, Variant};
use crate::loss::Hooks;
use crate::plan::Driver;

/// Every variant that a session can ask for: dense targets always have coefficients.
fn variants() -> impl Iterator<Item = Variant> {
    let flags = [false, true];
    [(false, false), (false, true), (true, true)].into_iter().flat_map(move |(dense, spread)| {
        flags.into_iter().flat_map(move |weighted| {
            flags.into_iter().flat_map(move |ranked| {
                [64, 256].into_iter().map(move |lanes| Variant { dense, spread, weighted, ranked, lanes })
            })
        })
    })
}

fn keys() -> impl Iterator<Item = Key> {
    Hooks::ALL.into_iter().flat_map(|hooks| {
        Driver::ALL.into_iter().flat_map(move |driver| variants().map(move |variant| Key { hooks, driver, variant }))
    })
}

fn parse(hooks: Hooks, driver: Driver) -> naga::Module {
    let text = source(hooks, driver);
    naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)))
}

#[test]
fn every_combination_is_valid() {
    for key in keys() {
        let module = parse(key.hooks, key.driver);
        let mut validator =
            naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty());
        let info = validator.validate(&module).unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
        let constants = key.variant.overrides().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let entry = Some((naga::ShaderStage::Compute, "rows"));
        naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants)
            .unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
    }
}

#[test]
fn every_combination_compiles_on_this_machines_adapter() {
    let choice = crate::gpu::Choice { name: None, software: true };
    let context = pollster::block_on(crate::gpu::open(&choice))
        .expect("GPU tests need an adapter: on Debian, apt-get install mesa-vulkan-drivers");
    for key in keys() {
        let scope = context.device.push_error_scope(wgpu::ErrorFilter::Validation);
        context.pipelines.get(&context.device, key);
        let error = pollster::block_on(scope.pop());
        assert!(error.is_none() && context.failure().is_none(), "{key:?}: {error:?}");
    }
}

#[test]
fn parameters_lie_alike_on_both_sides() {
    let module = parse(Hooks::CategoricalLogits, Driver::Lane);
    let (_, params) = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params")).expect("shaders have Params");
    let naga::TypeInner::Struct { members, span } = &params.inner else { panic!("Params is a struct") };
    let theirs: Vec<_> =
        members.iter().map(|member| (member.name.clone().unwrap_or_default(), member.offset as usize)).collect();
    let ours = [
        ("rows", offset_of!(Params, rows)),
        ("classes", offset_of!(Params, classes)),
        ("first", offset_of!(Params, first)),
        ("nearest", offset_of!(Params, nearest)),
        ("farthest", offset_of!(Params, farthest)),
        ("lowest", offset_of!(Params, lowest)),
        ("keep", offset_of!(Params, keep)),
        ("spread", offset_of!(Params, spread)),
    ];
    assert_eq!(theirs, ours.map(|(name, offset)| (name.to_owned(), offset)));
    assert_eq!(*span as usize, size_of::<Params>());
}

#[test]
fn bindings_have_the_same_names_and_numbers() {
    let module = parse(Hooks::CategoricalLogits, Driver::Workgroup);
    let bindings: BTreeMap<_, _> = module
        .global_variables
        .iter()
        .filter_map(|(_, variable)| Some((variable.binding.as_ref()?.binding, variable.name.clone()?)))
        .collect();
    assert_eq!(bindings, (0..).zip(BINDINGS.map(str::to_owned)).collect());
}

#[test]
fn constants_come_from_rust_and_have_no_second_definition() {
    let given: BTreeSet<_> = Variant { dense: false, spread: false, weighted: false, ranked: false, lanes: 64 }
        .overrides()
        .into_iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    for hooks in Hooks::ALL {
        let module = parse(hooks, Driver::Workgroup);
        assert!(module.overrides.iter().all(|(_, constant)| constant.init.is_none()), "an override has a default");
        let declared: BTreeSet<_> = module.overrides.iter().filter_map(|(_, constant)| constant.name.clone()).collect();
        assert_eq!(declared, given);
    }
}

#[test]
fn hooks_have_the_same_names_in_the_same_order() {
    const HOOKS: [&str; 6] = ["identity", "absorb", "merge", "two_walks", "term", "finish"];
    fn order(text: &str) -> Vec<&str> {
        text.match_indices("fn ")
            .map(|(at, _)| text[at + 3..].split(['(', '<']).next().unwrap_or_default())
            .filter(|name| HOOKS.contains(name))
            .collect()
    }
    for (hooks, rust) in [
        (Hooks::CategoricalProbabilities, include_str!("loss/categorical_probabilities.rs")),
        (Hooks::CategoricalLogits, include_str!("loss/categorical_logits.rs")),
        (Hooks::CategoricalLogProbabilities, include_str!("loss/categorical_log_probabilities.rs")),
    ] {
        assert_eq!(order(hooks.wgsl()), HOOKS, "{hooks:?} in WGSL");
        assert_eq!(order(rust), HOOKS, "{hooks:?} in Rust");
    }
}
