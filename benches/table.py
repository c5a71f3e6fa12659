"""Prints records as tables: the fraction of the read, or for gradients of the copy, over classes.

Records are those of `xent bench`, of benches/peers and of its Python part. Where one has several backends, adapters or
libraries, each has rows of its own; what failed is left blank.

    python3 benches/table.py benches/record/2026-11-26-h100-bench.json …
"""

import json
import statistics
import sys

TARGETS = {"sparse": "class indices", "dense": "dense"}
PASSES = {"forward": "forward", "gradient": "gradient", "both": "loss and gradient"}


def who(entry):
    """Whose a bandwidth or a result is: a backend and its adapter or, in records of benches/peers, a library and its device."""
    names = (entry.get(name) for name in ("backend", "adapter", "library", "device"))
    # There the bandwidths are the host's, and say so nowhere.
    return ", ".join(name for name in names if name) or "the host"


def cell(result):
    """A fraction, if there is one; an answer that is wrong is marked."""
    fraction = result.get("fraction", result.get("fraction_of_host"))
    return "" if fraction is None else f"{fraction:.2f}" + ("" if result.get("correct", True) else "!")


def table(path):
    """The lines of one record's table."""
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    rows, widths = {}, {}
    for result in record["results"]:
        key = (who(result), *(result[name] for name in ("input", "element", "pass", "targets")))
        rows.setdefault(key, {})[result["classes"]] = cell(result)
    columns = sorted({classes for row in rows.values() for classes in row})
    # There may be one of each, or one of each case: then medians.
    for width in record["bandwidths"]:
        widths.setdefault(who(width), []).append((width["read_gbs"], width["copy_gbs"]))
    for name, found in widths.items():
        read, copy = map(statistics.median, zip(*found))
        yield f"{record['date']}, {name}: read {read:.0f} GB/s, copy {copy:.0f} GB/s"
    yield ""
    yield "| | " + " | ".join(f"{classes:,}" for classes in columns) + " |"
    yield "| --- |" + " --- |" * len(columns)
    several = len({key[0] for key in rows}) > 1
    for (name, given, element, taken, targets), row in rows.items():
        label = f"{given}, {element}, {PASSES[taken]}, {TARGETS[targets]}"
        cells = (row.get(classes, "") for classes in columns)
        yield f"| {f'{name}: ' if several else ''}{label} | " + " | ".join(cells) + " |"
    if any("!" in text for row in rows.values() for text in row.values()):
        yield "\n! this answer is wrong"
    for failure in record.get("failures", []):
        yield f"\n{failure['adapter']} failed: {failure['reason']}"


def main():
    """A table for each record that is named."""
    for path in sys.argv[1:]:
        print("\n".join(table(path)), end="\n\n")


if __name__ == "__main__":
    main()
