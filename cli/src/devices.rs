//! `xent devices`: what there is to run on.

use serde_json::json;
use xent::AdapterSummary;

use crate::args::{DevicesArgs, Format};
use crate::failure::Failure;
use crate::report::print;

pub(crate) fn run(args: &DevicesArgs) -> Result<(), Failure> {
    let adapters = xent::adapters_blocking();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let auto = adapters.iter().find(|adapter| adapter.auto).map_or("cpu", |adapter| adapter.name.as_str());
    match args.format {
        Format::Json => {
            let gpus: Vec<_> = adapters.iter().map(as_json).collect();
            print([json!({ "auto": auto, "cpu": { "threads": threads }, "adapters": gpus }).to_string()])
        }
        Format::Text => {
            let mut lines = vec![format!("cpu: {threads} threads{}", mark(auto == "cpu"))];
            lines.extend(adapters.iter().flat_map(as_text));
            if adapters.is_empty() {
                lines.push("no GPU adapter: no driver offers one".into());
            }
            print(lines)
        }
    }
}

fn mark(auto: bool) -> &'static str {
    if auto { "  <- auto" } else { "" }
}

fn as_json(adapter: &AdapterSummary) -> serde_json::Value {
    json!({
        "name": adapter.name,
        "kind": adapter.kind,
        "api": adapter.api,
        "driver": adapter.driver,
        "features": adapter.features,
        "subgroup_sizes": [adapter.subgroup_sizes.0, adapter.subgroup_sizes.1],
        "max_binding": adapter.max_binding,
        "max_buffer": adapter.max_buffer,
        "auto": adapter.auto,
    })
}

fn as_text(adapter: &AdapterSummary) -> [String; 4] {
    let features = if adapter.features.is_empty() { "none of use here".into() } else { adapter.features.join(", ") };
    let subgroups = match adapter.subgroup_sizes {
        (_, 0) => "no subgroups".into(),
        (least, most) => format!("subgroups of {least} to {most}"),
    };
    [
        format!("gpu: {}, {} ({}){}", adapter.name, adapter.kind, adapter.api, mark(adapter.auto)),
        format!("     driver    {}", adapter.driver),
        format!("     features  {features}; {subgroups}"),
        format!("     limits    binding {} MiB, buffer {} MiB", adapter.max_binding >> 20, adapter.max_buffer >> 20),
    ]
}
