//! Which device a run takes: what `xent devices` lists, what `auto` means, and what happens when a GPU fails halfway.
//! Nothing is assumed of this machine but that some adapter is there, if only Mesa's software one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::digits::{self, ROWS};
use support::program::{Folder, number};
use support::{oracle, tolerance};

/// The digits, in windows of which the GPU takes nine.
const ARGS: &str = "network_probabilities.npy labels.npy --window-rows 100";
const WINDOWS: u64 = 9;

fn devices(folder: &Folder) -> Value {
    folder.run("devices --format json").json()
}

fn adapters(devices: &Value) -> &[Value] {
    devices["adapters"].as_array().unwrap()
}

#[test]
fn devices_lists_the_processor_and_every_adapter() {
    let devices = devices(&Folder::new());
    assert!(devices["cpu"]["threads"].as_u64().unwrap() > 0, "{devices}");
    for adapter in adapters(&devices) {
        for field in ["name", "kind", "api", "driver"] {
            assert!(adapter[field].is_string(), "{field} in {adapter}");
        }
        let kind = adapter["kind"].as_str().unwrap();
        assert!(["discrete", "integrated", "virtual", "software", "other"].contains(&kind), "{adapter}");
        for field in ["max_binding", "max_buffer"] {
            assert!(adapter[field].as_u64().is_some_and(|bytes| bytes > 0), "{field} in {adapter}");
        }
        assert!(adapter["features"].as_array().unwrap().iter().all(Value::is_string), "{adapter}");
        let sizes = adapter["subgroup_sizes"].as_array().unwrap();
        assert!(sizes.len() == 2 && sizes.iter().all(Value::is_u64), "{adapter}");
        let has_subgroups = adapter["features"].as_array().unwrap().contains(&"subgroups".into());
        assert_eq!(sizes.iter().all(|size| size != 0), has_subgroups, "{adapter}");
        assert!(adapter["auto"].is_boolean(), "{adapter}");
    }
}

#[test]
fn people_see_the_same_list() {
    let folder = Folder::new();
    let devices = devices(&folder);
    let run = folder.run("devices");
    let text = run.text();
    assert!(text.starts_with("cpu: "), "{text}");
    for adapter in adapters(&devices) {
        assert!(text.contains(adapter["name"].as_str().unwrap()), "{text}");
        assert!(text.contains(adapter["driver"].as_str().unwrap()), "{text}");
    }
    let chosen: Vec<&str> = text.lines().filter(|line| line.ends_with("<- auto")).collect();
    let [line] = chosen[..] else { panic!("one line is marked: {text}") };
    assert!(line.contains(devices["auto"].as_str().unwrap()), "{text}");
}

#[test]
fn auto_is_one_real_adapter_or_the_cpu() {
    let folder = digits::folder();
    let devices = devices(&folder);
    let chosen: Vec<&Value> = adapters(&devices).iter().filter(|adapter| adapter["auto"] == true).collect();
    let report = folder.evaluate("auto", ARGS);
    match chosen[..] {
        [] => {
            assert_eq!(devices["auto"], "cpu");
            assert!(adapters(&devices).iter().all(|adapter| adapter["kind"] == "software"), "{devices}");
            assert_eq!(report["backend"], json!({ "kind": "cpu" }));
        }
        [adapter] => {
            assert_eq!(devices["auto"], adapter["name"]);
            assert_ne!(adapter["kind"], "software", "a software adapter is no GPU");
            let backend = json!({ "kind": "gpu", "adapter": adapter["name"], "driver": adapter["driver"] });
            assert_eq!(report["backend"], backend);
        }
        _ => panic!("more than one: {devices}"),
    }
    // Nothing is wrong with a machine without a GPU, and auto is the default.
    assert_eq!(report["warnings"], json!([]));
    let default = folder.run(&format!("evaluate {ARGS} --format json")).json();
    assert_eq!(default["backend"], report["backend"]);
}

#[test]
fn an_adapter_is_taken_by_a_part_of_its_name() {
    let folder = digits::folder();
    let devices = devices(&folder);
    let names: Vec<&str> = adapters(&devices).iter().map(|adapter| adapter["name"].as_str().unwrap()).collect();
    assert!(!names.is_empty(), "no adapter: Debian's mesa-vulkan-drivers has one for any machine");
    for name in &names {
        let word = name.split_whitespace().next().unwrap();
        for (part, backend) in [(word.to_uppercase(), "gpu"), (word.to_lowercase(), "auto")] {
            let report = folder.evaluate(backend, &format!("{ARGS} --adapter {part}"));
            assert_eq!(report["backend"]["kind"], "gpu", "{part}");
            let adapter = report["backend"]["adapter"].as_str().unwrap().to_lowercase();
            assert!(adapter.contains(&part.to_lowercase()), "{part}: {adapter}");
        }
    }
    for backend in ["auto", "gpu"] {
        let run = folder.run(&format!("evaluate {ARGS} --backend {backend} --adapter nosuchthing --losses out.npy"));
        assert_eq!(run.refusal_problem(1), None);
        assert!(names.iter().all(|name| run.stderr.contains(name)) && run.stderr.contains("nosuchthing"), "{run:?}");
        assert!(!folder.contents().contains_key("out.npy"));
    }
}

#[test]
fn a_gpu_that_fails_under_auto_is_replaced_by_the_cpu() {
    let folder = digits::folder();
    folder.evaluate("cpu", &format!("{ARGS} --losses cpu.npy"));
    let cpu = folder.read_f32("cpu.npy");
    let expected = &digits::expected("network");
    let predictions = digits::array("network_probabilities.npy");
    let truth = digits::problem(oracle::Input::Probabilities, &predictions).truth();
    for kind in ["lose-device", "out-of-memory"] {
        for window in [0, 3, WINDOWS - 1] {
            let fault = format!("{kind}:{window}");
            let report = folder.evaluate("auto", &format!("{ARGS} --allow-software --fault {fault} --losses out.npy"));
            assert_eq!(report["backend"], json!({ "kind": "cpu" }), "{fault}");
            let warnings = report["warnings"].as_array().unwrap();
            assert_eq!(warnings.len(), 1, "{fault}: {report}");
            let warning = warnings[0].as_str().unwrap();
            assert!(warning.contains("CPU") && !warning.contains('\n'), "{fault}: {warning}");
            assert!(warning.contains(&format!("row {}", window * 100)), "{fault}: {warning}");
            assert_eq!((&report["rows"], &report["kept"]), (&json!(ROWS), &json!(ROWS)), "{fault}");
            assert_eq!(report["accuracy"], expected["accuracy"], "{fault}");
            let want = expected["loss_from_probabilities"].as_f64().unwrap();
            tolerance::assert_total(&fault, number(&report, "loss"), want);
            let losses = folder.read_f32("out.npy");
            assert_eq!(losses.shape, cpu.shape, "{fault}");
            for (row, (got, want)) in losses.values.iter().zip(&cpu.values).enumerate() {
                tolerance::assert_row(&format!("{fault}, row {row}"), *got as f32, *want, truth.terms[row]);
            }
        }
    }
    assert_eq!(folder.leftovers().len(), 0);
}

#[test]
fn people_are_told_of_a_gpu_that_failed() {
    let folder = digits::folder();
    let run = folder.run(&format!("evaluate {ARGS} --backend auto --allow-software --fault lose-device:3"));
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!(run.stderr.starts_with("warning: ") && run.stderr.lines().count() == 1, "{run:?}");
    assert!(run.stdout.lines().any(|line| line.starts_with("backend") && line.ends_with("cpu")), "{run:?}");
}

#[test]
fn a_gpu_that_fails_where_it_was_demanded_is_an_error() {
    let folder = digits::folder();
    let before = folder.contents();
    let devices = devices(&folder);
    let name = adapters(&devices)[0]["name"].as_str().unwrap();
    let named = format!("--backend auto --adapter {}", name.split_whitespace().next().unwrap());
    for demand in ["--backend gpu", &named] {
        for kind in ["lose-device", "out-of-memory"] {
            for window in [0, 3, WINDOWS - 1] {
                let run = folder.run(&format!("evaluate {ARGS} {demand} --fault {kind}:{window} --losses out.npy"));
                assert_eq!(run.refusal_problem(1), None);
                assert!(run.stderr.contains(&format!("row {}", window * 100)), "{run:?}");
                assert!(folder.contents() == before && folder.leftovers().is_empty(), "{}: something is left", run.args);
            }
        }
    }
}

#[test]
fn a_fault_that_never_comes_changes_nothing() {
    let folder = digits::folder();
    for backend in ["auto", "gpu"] {
        let args = format!("{ARGS} --allow-software --fault lose-device:{WINDOWS}");
        let report = folder.evaluate(backend, &args);
        assert_eq!((&report["backend"]["kind"], &report["warnings"]), (&json!("gpu"), &json!([])), "{backend}");
    }
}

#[cfg(target_os = "linux")]
mod without_drivers {
    use super::*;

    /// The names of the libraries that an ELF file cannot start without.
    fn needed_libraries(elf: &[u8]) -> Vec<String> {
        const SECTION_DYNAMIC: u32 = 6;
        const TAG_NEEDED: u64 = 1;
        assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "64 bits, little endian");
        let half = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
        let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap());
        let (sections, size, count) = (long(0x28) as usize, half(0x3a), half(0x3c));
        // Where a section's bytes are.
        let place = |header: usize| (long(header + 0x18) as usize, long(header + 0x20) as usize);
        let dynamic = (0..count).map(|i| sections + i * size).find(|&header| word(header + 4) == SECTION_DYNAMIC).unwrap();
        let (names, _) = place(sections + word(dynamic + 0x28) as usize * size);
        let (start, length) = place(dynamic);
        (start..start + length)
            .step_by(16)
            .filter(|&entry| long(entry) == TAG_NEEDED)
            .map(|entry| {
                let name = &elf[names + long(entry + 8) as usize..];
                let end = name.iter().position(|&byte| byte == 0).unwrap();
                String::from_utf8(name[..end].to_vec()).unwrap()
            })
            .collect()
    }

    #[test]
    fn the_program_starts_where_there_is_no_vulkan() {
        let program = std::fs::read(assert_cmd::cargo::cargo_bin!("xent")).unwrap();
        let libraries = needed_libraries(&program);
        assert!(libraries.iter().any(|name| name.starts_with("libc.")), "{libraries:?}");
        let forbidden = ["vulkan", "GL", "X11", "wayland", "xcb"];
        let graphics = |name: &&String| forbidden.iter().any(|word| name.contains(word));
        assert_eq!(libraries.iter().find(graphics), None, "{libraries:?}");
    }

    #[test]
    fn a_machine_without_drivers_or_loader_evaluates_on_the_cpu() {
        let folder = digits::folder();
        // A library that cannot be loaded, found before the one that can.
        let broken = Folder::new();
        broken.put("libvulkan.so.1", b"");
        broken.put("libvulkan.so", b"");
        let libraries = broken.path("");
        let nothing = folder.path("nothing.json");
        let (libraries, nothing) = (libraries.to_str().unwrap(), nothing.to_str().unwrap());
        let no_drivers = [("VK_ICD_FILENAMES", nothing), ("VK_DRIVER_FILES", nothing), ("VK_ADD_DRIVER_FILES", nothing)];
        let no_loader = [("LD_LIBRARY_PATH", libraries)];
        let machines: [(&str, &[(&str, &str)]); 2] = [("no drivers", &no_drivers), ("no loader", &no_loader)];
        for (machine, variables) in machines {
            let devices = folder.run_with("devices --format json", variables).json();
            assert_eq!((&devices["auto"], adapters(&devices)), (&json!("cpu"), &[][..]), "{machine}");
            assert!(folder.run_with("devices", variables).text().contains("no GPU adapter"), "{machine}");

            for backend in ["cpu", "auto", "auto --allow-software"] {
                let run = folder.run_with(&format!("evaluate {ARGS} --format json --backend {backend}"), variables);
                let report = run.json();
                assert_eq!(report["backend"], json!({ "kind": "cpu" }), "{machine}, {backend}");
                assert_eq!(report["warnings"], json!([]), "{machine}, {backend}");
                let want = digits::expected("network")["loss_from_probabilities"].as_f64().unwrap();
                tolerance::assert_total(machine, number(&report, "loss"), want);
            }
            for demand in ["--backend gpu", "--backend gpu --adapter llvmpipe", "--adapter llvmpipe"] {
                let run = folder.run_with(&format!("evaluate {ARGS} {demand} --losses out.npy"), variables);
                assert_eq!(run.refusal_problem(1), None, "{machine}");
                assert!(run.stderr.contains("no GPU adapter"), "{machine}: {run:?}");
                assert!(!folder.contents().contains_key("out.npy"), "{machine}");
            }
        }
    }
}
