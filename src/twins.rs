//! The shaders against their Rust twins: layouts, names, constants, and every combination that can be built.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;

use naga::valid::Capabilities;

use crate::fold::FoldKind;
use crate::gpu::{Key, Recipe, source};
use crate::layout::{BINDINGS, Element, Params, Variant, Wanted};
use crate::loss::{PAIRS, SOURCES, TermKind};
use crate::plan::{self, DeviceLimits, Driver, Scheme};

/// Every variant that a session can ask for of a pair: dense targets always have coefficients, only a softmax is moved and
/// has a logsumexp, and losses without a label are not ranked.
fn variants(fold: FoldKind, term: TermKind, scheme: Scheme) -> Vec<Variant> {
    let flags = [false, true];
    let soft = fold == FoldKind::Softmax;
    let labelled = matches!(term, TermKind::Categorical | TermKind::Focal | TermKind::Poly);
    let mut all = Vec::new();
    for (dense, spread) in [(false, false), (false, true), (true, true)] {
        for bits in 0..1 << 6_u32 {
            let flag = |place: u32| flags[(bits >> place & 1) as usize];
            let wanted = Wanted { ranks: flag(0), logsumexp: flag(1), calibration: flag(2), gradient: flag(3) };
            let (weighted, moved) = (flag(4), flag(5));
            let possible = (soft || !(moved || wanted.logsumexp))
                && (labelled || (dense && !weighted && !wanted.ranks && !wanted.calibration))
                && (wanted.ranks || !wanted.calibration);
            if possible {
                let closed = soft && term == TermKind::Categorical;
                let element = [Element::F32, Element::F16, Element::Bf16][bits as usize % 3];
                // Only lanes that take rows of any length look at how these lie.
                let looks = scheme.driver == Driver::Lane && scheme.narrow == 0;
                let layouts = [(false, false), (false, true), (true, false), (true, true)];
                // Of others, a team that writes a gradient looks at whether rows share words.
                let looks_at_words = scheme.driver.is_team() && wanted.gradient;
                let count = if looks { 4 } else { 1 + usize::from(looks_at_words) };
                for (strided, aligned) in layouts.into_iter().take(count) {
                    let (row_scales, in_place, arena) = (flag(0) != flag(1), flag(2) && wanted.gradient, flag(4) != flag(5));
                    all.push(Variant {
                        dense,
                        spread,
                        closed,
                        weighted,
                        moved,
                        element: if in_place { Element::F32 } else { element },
                        wanted,
                        strided,
                        aligned,
                        row_scales,
                        in_place,
                        arena,
                        scheme,
                    });
                }
            }
        }
    }
    all
}

/// Devices with subgroups of these sizes, and without any.
pub(crate) fn devices() -> impl Iterator<Item = DeviceLimits> {
    [(0, 0), (4, 4), (8, 8), (8, 32), (16, 16), (32, 32), (64, 64), (32, 128)].into_iter().flat_map(|subgroups| {
        [false, true].map(|software| DeviceLimits { adapter: "test".into(), binding: 128 << 20, software, subgroups })
    })
}

/// One scheme for each text that shaders are made of, but for sizes: those are the largest of their range.
fn schemes() -> Vec<Scheme> {
    let mut all: BTreeMap<_, Scheme> = BTreeMap::new();
    for device in devices() {
        for classes in [4, 31, 64, 128, 1024, 8192, 16_384, 100_000] {
            let scheme = Scheme::of(classes, &device);
            all.insert((scheme.driver, scheme.together > 1, scheme.narrow > 0), scheme);
        }
    }
    all.into_values().collect()
}

fn keys() -> impl Iterator<Item = Key> {
    PAIRS.iter().flat_map(|&(fold, term)| {
        schemes().into_iter().flat_map(move |scheme| {
            variants(fold, term, scheme)
                .into_iter()
                .flat_map(move |variant| scheme.driver.entries().iter().map(move |&entry| Key { fold, term, variant, entry }))
        })
    })
}

fn parse(fold: FoldKind, term: TermKind, variant: Variant) -> naga::Module {
    let text = source(fold, term, variant);
    naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)))
}

/// A variant with every binding.
fn full() -> Variant {
    let split = schemes().into_iter().find(|scheme| scheme.driver == Driver::Split).expect("long rows are split");
    let all = |variant: &Variant| (0..BINDINGS.len()).all(|binding| variant.binds(binding));
    variants(FoldKind::Softmax, TermKind::Categorical, split).into_iter().find(all).expect("some variant binds everything")
}

/// What the text of a shader depends on.
fn text(key: &Key) -> String {
    let Variant { dense, weighted, wanted, element, row_scales, in_place, arena, .. } = key.variant;
    let gradient = wanted.gradient;
    let halves = element != Element::F32;
    let shares = gradient && key.variant.shares_words();
    let choices = [dense, weighted, gradient, shares, halves, row_scales, in_place, arena];
    format!("{} {choices:?}", text_of_scheme(key))
}

fn text_of_scheme(key: &Key) -> String {
    format!("{:?} {:?} {:?}", key.fold, key.term, key.variant.scheme)
}

/// How many of the choices are made that a caller has with any loss.
fn choices(variant: &Variant) -> usize {
    let Wanted { ranks, logsumexp, calibration, gradient } = variant.wanted;
    let chosen = [ranks, logsumexp, calibration, gradient, variant.weighted, variant.moved];
    chosen.into_iter().filter(|&choice| choice).count()
}

/// WebGPU has the second of these capabilities everywhere, and so have native drivers, but for Mesa's software one on a processor
/// that converts no float16.
fn validator() -> naga::valid::Validator {
    let capabilities = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
}

#[test]
fn every_combination_is_valid() {
    // Parsed and validated once, pruned for each variant.
    let mut modules = BTreeMap::new();
    for key in keys() {
        let (module, info) = modules.entry(text(&key)).or_insert_with(|| {
            let module = parse(key.fold, key.term, key.variant);
            let info = validator().validate(&module).unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
            (module, info)
        });
        // Each choice by itself, and nearly all at once: what constants come to is decided one by one.
        if (2..5).contains(&choices(&key.variant)) {
            continue;
        }
        let pruned = crate::gpu::pruned(module, info, key.entry, &key.variant.overrides());
        let pruned = pruned.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
        validator().validate(&pruned).unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
    }
}

#[test]
fn extreme_combinations_compile_on_this_machines_adapter() {
    let choice = crate::gpu::Choice { software: true, ..Default::default() };
    let context = pollster::block_on(crate::gpu::open(&choice))
        .expect("GPU tests need an adapter: on Debian, apt-get install mesa-vulkan-drivers");
    // None of the choices, and as many at once as there may be with each kind of target, element and layout: the drivers' compilers
    // take their time.
    let mut keys: Vec<_> = keys().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(choices(&key.variant)));
    let mut seen = BTreeSet::new();
    keys.retain(|key| {
        let Variant { dense, spread, element, strided, aligned, .. } = key.variant;
        let none = choices(&key.variant) == 0;
        let facts = [format!("{none} {dense} {spread}"), format!("{element:?}"), format!("{strided} {aligned}")];
        let place = format!("{} {}", text_of_scheme(key), key.entry);
        facts.into_iter().filter(|fact| seen.insert(format!("{place} {fact}"))).count() > 0
    });
    let (context, keys) = (&context, &keys);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for &key in keys.iter().skip(first).step_by(threads) {
                    let error = context.pipelines.get(&context.device, Recipe::Rows(key)).err();
                    assert!(error.is_none() && context.failure().is_none(), "{key:?}: {error:?}");
                }
            });
        }
    });
}

#[test]
fn workgroup_memory_is_within_webgpus_default() {
    let limit = wgpu::Limits::default().max_compute_workgroup_storage_size;
    for device in devices() {
        for classes in (1..200).chain([1024, 8192, 16_384, 100_000]) {
            let scheme = Scheme::of(classes, &device);
            let bytes = match scheme.driver {
                Driver::Lane => 0,
                // Predictions and dense targets.
                Driver::Tile => 2 * 4 * scheme.lanes * scheme.pitch,
                Driver::Team | Driver::Split => 4 * (PACKED + 1) * scheme.lanes,
            };
            assert!(bytes <= limit && scheme.lanes <= 256, "{classes} classes: {bytes} bytes, {scheme:?}");
        }
    }
    // What the sizes above are taken from.
    for &(fold, term) in PAIRS {
        for scheme in schemes() {
            let module = parse(fold, term, variants(fold, term, scheme)[0]);
            let shared = module.global_variables.iter().filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup);
            let strides: Vec<u32> = shared
                .map(|(_, variable)| match module.types[variable.ty].inner {
                    naga::TypeInner::Array { stride, .. } => stride,
                    ref other => panic!("workgroup memory is an array, not {other:?}"),
                })
                .collect();
            match scheme.driver {
                Driver::Lane => assert!(strides.is_empty()),
                Driver::Tile => assert_eq!(strides, [4, 4]),
                Driver::Team | Driver::Split => assert_eq!(strides, [4 * PACKED, 4]),
            }
        }
    }
}

/// Words that lanes hand to each other, `PACKED` in `shaders/lanes/packed.wgsl`.
const PACKED: u32 = 12;

#[test]
fn parameters_lie_alike_on_both_sides() {
    let module = parse(FoldKind::Softmax, TermKind::Categorical, full());
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
        ("highest", offset_of!(Params, highest)),
        ("keep", offset_of!(Params, keep)),
        ("spread", offset_of!(Params, spread)),
        ("gamma", offset_of!(Params, gamma)),
        ("alpha", offset_of!(Params, alpha)),
        ("poly", offset_of!(Params, poly)),
        ("z_loss", offset_of!(Params, z_loss)),
        ("sharpness", offset_of!(Params, sharpness)),
        ("sharpness_lost", offset_of!(Params, sharpness_lost)),
        ("softcap", offset_of!(Params, softcap)),
        ("share", offset_of!(Params, share)),
        ("inner", offset_of!(Params, inner)),
        ("parts", offset_of!(Params, parts)),
        ("first_part", offset_of!(Params, first_part)),
        ("part_count", offset_of!(Params, part_count)),
        ("scale", offset_of!(Params, scale)),
        ("divided", offset_of!(Params, divided)),
        ("ignored", offset_of!(Params, ignored)),
        ("ignores", offset_of!(Params, ignores)),
        ("fused", offset_of!(Params, fused)),
        ("fused_square", offset_of!(Params, fused_square)),
        ("round_up", offset_of!(Params, round_up)),
        ("round_down", offset_of!(Params, round_down)),
        ("halves", offset_of!(Params, halves)),
    ];
    assert_eq!(theirs, ours.map(|(name, offset)| (name.to_owned(), offset)));
    assert_eq!(*span as usize, size_of::<Params>());
}

#[test]
fn bindings_have_the_same_names_and_numbers() {
    let module = parse(FoldKind::Softmax, TermKind::Categorical, full());
    let bindings: BTreeMap<_, _> = module
        .global_variables
        .iter()
        .filter_map(|(_, variable)| Some((variable.binding.as_ref()?.binding, variable.name.clone()?)))
        .collect();
    assert_eq!(bindings, (0..).zip(BINDINGS.map(str::to_owned)).collect());
}

#[test]
fn sizes_are_the_same_on_both_sides() {
    let module = parse(FoldKind::Softmax, TermKind::Categorical, full());
    let size = |name: &str| {
        let found = module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name));
        let init = found.map(|(_, constant)| &module.global_expressions[constant.init]);
        match init {
            Some(naga::Expression::Literal(naga::Literal::U32(size))) => *size,
            other => panic!("{name} is {other:?}"),
        }
    };
    assert_eq!(size("PACKED"), PACKED);
    assert_eq!(u64::from(size("SLOT")) * 4, plan::SLOT_BYTES);
    assert_eq!(u64::from(size("LABEL_BITS")) * 4, crate::gpu::LABEL_BITS);
}

#[test]
fn constants_come_from_rust_and_have_no_second_definition() {
    let variant = full();
    let given: BTreeSet<_> = variant.overrides().into_iter().map(|(name, _)| name.to_owned()).collect();
    for &(fold, term) in PAIRS {
        let module = parse(fold, term, full());
        assert!(module.overrides.iter().all(|(_, constant)| constant.init.is_none()), "an override has a default");
        let declared: BTreeSet<_> = module.overrides.iter().filter_map(|(_, constant)| constant.name.clone()).collect();
        assert_eq!(declared, given);
    }
}

#[test]
fn hooks_have_the_same_names_in_the_same_order() {
    const FOLD: [&str; 13] = [
        "identity",
        "absorb",
        "merge",
        "row_of",
        "is_undefined",
        "logsumexp",
        "confidence",
        "unclipped",
        "share",
        "closed_terms",
        "extra_loss",
        "through",
        "through_others",
    ];
    fn order<'t>(text: &'t str, names: &[&str]) -> Vec<&'t str> {
        text.match_indices("fn ")
            .map(|(at, _)| text[at + 3..].split(['(', '<']).next().unwrap_or_default())
            .filter(|name| names.contains(name))
            .collect()
    }
    for (wgsl, rust) in [
        (FoldKind::Softmax.wgsl(), include_str!("fold/softmax.rs")),
        (FoldKind::Shares.wgsl(), include_str!("fold/shares.rs")),
        (FoldKind::Plain.wgsl(), include_str!("fold/plain.rs")),
    ] {
        assert_eq!(order(rust, &FOLD), FOLD, "in Rust");
        assert_eq!(order(wgsl, &FOLD), FOLD, "in WGSL");
    }
    for (loss, rust) in SOURCES {
        assert_eq!(order(rust, &["term"]), ["term"], "{loss:?} in Rust");
        assert_eq!(order(loss.wgsl(), &["term"]), ["term"], "{loss:?} in WGSL");
    }
}
