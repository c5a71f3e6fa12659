"""Prints records of `xent bench` as tables: the fraction of the read, or for gradients of the copy, over classes.

    python3 benches/table.py benches/record/2026-11-26-h100-bench.json …
"""

import json
import sys

TARGETS = {"sparse": "class indices", "dense": "dense"}
PASSES = {"forward": "forward", "gradient": "gradient", "both": "loss and gradient"}


def table(path):
    """The lines of one record's table."""
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    rows = {}
    for result in record["results"]:
        key = tuple(result[name] for name in ("adapter", "input", "element", "pass", "targets"))
        rows.setdefault(key, {})[result["classes"]] = result["fraction"]
    columns = sorted({classes for row in rows.values() for classes in row})
    for width in record["bandwidths"]:
        yield f"{record['date']}, {width['adapter']}: read {width['read_gbs']:.0f} GB/s, copy {width['copy_gbs']:.0f} GB/s"
    yield ""
    yield "| | " + " | ".join(f"{classes:,}" for classes in columns) + " |"
    yield "| --- |" + " --- |" * len(columns)
    for (_, given, element, name, targets), row in rows.items():
        cells = (f"{row[classes]:.2f}" if classes in row else "" for classes in columns)
        yield f"| {given}, {element}, {PASSES[name]}, {TARGETS[targets]} | " + " | ".join(cells) + " |"


def main():
    """A table for each record that is named."""
    for path in sys.argv[1:]:
        print("\n".join(table(path)), end="\n\n")


if __name__ == "__main__":
    main()
