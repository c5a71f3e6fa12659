"""Measures PyTorch's cross-entropy, eager and compiled, on the CPU and on CUDA, and a Triton kernel where there is one.

Logits with class indices; everyone's answer is checked against float64 before it is timed; contestants take turns, and with
them a read and a copy of the same bytes; medians. With --xent, halfway through the rounds of each case `xent bench` measures
the same case at the same size, so that one table has both.

The JSON is written after each case. What fails is a result as well, with its reason. The exit status is 1 where a contestant
failed, xent among them, or gave a wrong answer.
"""

import argparse
import contextlib
import datetime
import importlib.util
import itertools
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

PASSES = ["forward", "both"]
CLASSES = [2, 10, 100, 1000, 8192, 32000, 128256]
ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 28}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# An answer further from the truth than this, and than its own type's rounding, is wrong.
WRONG = 1e-3
# Seconds after which a contestant that has had three runs is left out of the other rounds.
ENOUGH = 2.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=some_of(ELEMENTS), help="cpu,cuda (default: what there is)")
    parser.add_argument("--passes", type=some_of(PASSES), default=PASSES, help="forward,both (default: forward,both)")
    parser.add_argument("--elements", type=int, help="logits of a batch (default: 2^24 on the CPU, 2^28 on CUDA)")
    parser.add_argument("--dtypes", type=some_of(DTYPES), default=list(DTYPES), help="f32,f16,bf16 (default: all)")
    parser.add_argument("--classes", type=lambda text: [int(c) for c in text.split(",")], default=CLASSES)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each (default: 9)")
    parser.add_argument("--no-compile", action="store_true", help="leaves torch.compile out")
    parser.add_argument("--xent", type=Path, help="the program xent, whose `bench` then measures the same cases")
    parser.add_argument("--xent-args", type=pairs, default={}, help="options for `xent bench`, instead of those of a case")
    parser.add_argument("--json", type=Path, help="where the raw results go")
    return parser.parse_args()


def some_of(known):
    """Reads names with commas between them."""
    def names(text):
        found = text.split(",")
        if not set(found) <= set(known):
            raise argparse.ArgumentTypeError(f"{text!r} is not some of {','.join(known)}")
        return found
    return names


def pairs(text):
    """Options and their values, `--name value` or `--name=value`: every option of `xent bench` has a value."""
    found, words = {}, iter(shlex.split(text))
    for word in words:
        name, equals, value = word.partition("=")
        found[name] = value if equals else next(words, "")
    return found


def mean_loss(logits, labels):
    """The mean loss. Of 16-bit logits it is taken in float32: their own type has no room for it."""
    if logits.dtype == torch.float32:
        return F.cross_entropy(logits, labels)
    return F.cross_entropy(logits, labels, reduction="none").float().mean()


class Torch:
    """`mean_loss` and its gradient, eager or compiled."""

    def __init__(self, data, gradient, compiled):
        self.data, self.with_gradient, self.loss = data, gradient, mean_loss
        self.logits = data.logits.detach().requires_grad_(gradient)
        # In 16 bits the slopes of a mean over many rows would vanish: as in training, the loss is scaled.
        self.scale = 1.0 if self.logits.dtype == torch.float32 else float(data.rows)
        if compiled:
            # Each shape for itself: a shape that dynamo has seen too many of would silently run eagerly.
            torch._dynamo.reset()
            self.loss = torch.compile(mean_loss, dynamic=False, fullgraph=True)

    def run(self):
        self.logits.grad = None
        with torch.set_grad_enabled(self.with_gradient):
            self.value = self.loss(self.logits, self.data.labels)
        if self.with_gradient:
            self.value.backward(torch.tensor(self.scale, device=self.value.device))

    def gradient(self):
        return self.logits.grad, self.scale


class Triton:
    """The kernel beside this file."""

    def __init__(self, data, gradient):
        from triton_kernel import cross_entropy

        self.data, self.kernel = data, cross_entropy
        self.losses = torch.empty(data.rows, device=data.logits.device)
        self.slopes = torch.empty_like(data.logits) if gradient else None
        self.scale = 1.0 / data.rows if data.logits.dtype == torch.float32 else 1.0

    def run(self):
        self.kernel(self.data.logits, self.data.labels, self.losses, self.slopes, self.scale)
        self.value = self.losses.mean()

    def gradient(self):
        return self.slopes, self.scale * self.data.rows


class Data:
    """Logits between -4 and 4, the same in every run, and what is true of them in float64."""

    def __init__(self, device, dtype, classes, rows):
        self.classes, self.rows = classes, rows
        generator = torch.Generator(device).manual_seed(20)
        self.logits = torch.rand(self.rows, classes, generator=generator, device=device).mul_(8).sub_(4).to(dtype)
        self.labels = torch.arange(self.rows, device=device) * 7 % classes
        # Parts, so that float64 needs little memory.
        self.step = max(1, (1 << 24) // classes)
        total = 0.0
        for part in self.parts():
            x = self.logits[part].double()
            picked = x.gather(1, self.labels[part, None]).squeeze(1)
            total += (x.exp().sum(1).log() - picked).sum().item()
        self.mean = total / self.rows
        self.bytes = self.logits.numel() * self.logits.element_size()

    def parts(self):
        return (slice(first, first + self.step) for first in range(0, self.rows, self.step))

    def error(self, contestant, gradient):
        """How far an answer is from the truth: the mean relative to itself, a row's slopes relative to 1."""
        error = abs(contestant.value.item() - self.mean) / self.mean
        if gradient:
            found, scale = contestant.gradient()
            for part in self.parts():
                exact = self.logits[part].double().softmax(1)
                exact.scatter_add_(1, self.labels[part, None], torch.full_like(exact[:, :1], -1.0))
                exact -= found[part].double() * (self.rows / scale)
                slopes = exact.abs().max().item()
                # `max` may keep the other of a number and a NaN.
                error = math.inf if math.isnan(slopes) else max(error, slopes)
        return error


def clock(device):
    """A function that times another in seconds: by the device's own events where it has them."""
    if device == "cpu":
        def timed(run):
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
    else:
        def timed(run):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3
    return timed


def makers(device, options):
    """Who there is."""
    found = {"torch eager": lambda data, gradient: Torch(data, gradient, False)}
    if not options.no_compile:
        found["torch.compile"] = lambda data, gradient: Torch(data, gradient, True)
    if device == "cuda" and importlib.util.find_spec("triton"):
        found["triton"] = Triton
    return found


def contestants(device, data, gradient, options):
    """Who there is; a contestant that does not get through its first runs is told apart by its reason."""
    tolerance = WRONG + torch.finfo(data.logits.dtype).eps
    for name, make in makers(device, options).items():
        try:
            contestant = make(data, gradient)
            contestant.run()
            contestant.error = data.error(contestant, gradient)
            contestant.correct = contestant.error <= tolerance
            contestant.run()
            yield name, contestant, None
        except Exception as error:  # whatever a compiler or a driver throws
            yield name, None, reason(error)


def reason(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]


def measure_torch(device, case, options, halfway):
    """What torch has of a case, timed over the same data, in turn; `halfway` is called in the middle of the rounds."""
    gradient = case["pass"] == "both"
    data = Data(device, DTYPES[case["element"]], case["classes"], case["rows"])
    seats = list(contestants(device, data, gradient, options))
    # A sum of float32 reads at full speed, whatever the bytes mean.
    words = data.logits.view(-1)[: data.logits.numel() // 2 * 2].view(torch.float32)
    other = torch.empty_like(data.logits)
    yardsticks = {"read": words.sum, "copy": lambda: other.copy_(data.logits)}
    timed, times = clock(device), {}
    for run in yardsticks.values():
        run()
    for number in range(options.rounds):
        if number == (options.rounds + 1) // 2:
            halfway()
        for name, contestant, _ in seats:
            mine = times.setdefault(name, [])
            if contestant and not (len(mine) >= 3 and sum(mine) > ENOUGH):
                mine.append(timed(contestant.run))
        for name, run in yardsticks.items():
            times.setdefault(name, []).append(timed(run))
    read = data.bytes / statistics.median(times["read"]) / 1e9
    copy = 2 * data.bytes / statistics.median(times["copy"]) / 1e9
    # A logit once; 4 bytes for a label, as it is counted everywhere here. With a gradient its slopes too, of the logits' own
    # type: xent's are float32, and it counts the losses of rows, so GB/s of `both` are not of the same bytes. Seconds compare.
    needed = data.bytes * (2 if gradient else 1) + 4 * data.rows
    results = []
    for name, contestant, failure in seats:
        result = {"backend": name, "adapter": adapter(device), **case}
        if failure:
            result["failure"] = failure
        else:
            seconds = statistics.median(times[name])
            gbs = needed / seconds / 1e9
            result |= {"seconds": seconds, "gbs": gbs, "fraction": gbs / (copy if gradient else read),
                       # JSON has no other numbers.
                       "error": contestant.error if math.isfinite(contestant.error) else None, "correct": contestant.correct}
        results.append(result)
    width = {"backend": "torch", "adapter": adapter(device), **tags(case), "read_gbs": read, "copy_gbs": copy}
    return [width], results


def tags(case):
    """What bandwidths have of the case that they were measured with."""
    return {name: case[name] for name in ("pass", "element", "classes")}


def measure(device, case, options):
    """The bandwidths and results of a case: torch's and, between two halves of its rounds, xent's."""
    ours = []

    def halfway():
        if options.xent:
            ours.append(measure_xent(device, case, options))

    try:
        bandwidths, results = measure_torch(device, case, options, halfway)
    except Exception as error:  # no memory for the data, or an error in a round
        bandwidths = []
        results = [{"backend": name, "adapter": adapter(device), **case, "failure": reason(error)}
                   for name in makers(device, options)]
    if not ours:
        # There was no second half.
        halfway()
    for widths, found in ours:
        same = [r["seconds"] for r in found if "seconds" in r and all(r[name] == value for name, value in case.items())]
        for result in results:
            if same and "seconds" in result:
                result["times"] = result["seconds"] / same[0]
        bandwidths, results = bandwidths + widths, results + found
    return bandwidths, results


def adapter(device):
    return processor() if device == "cpu" else torch.cuda.get_device_name()


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measure_xent(device, case, options):
    """What `xent bench` says of a case; what fails is a result as well, with its reason."""
    # Of the GPUs the one that torch runs on.
    machine = {"--backend": "cpu"} if device == "cpu" else {"--backend": "gpu", "--adapter": adapter(device)}
    given = machine | {"--pass": case["pass"], "--input": case["input"], "--targets": case["targets"],
                       "--element": case["element"], "--classes": case["classes"],
                       # Bytes as float32, whatever the element.
                       "--bytes": case["rows"] * case["classes"] * 4, "--repeat": options.rounds, "--format": "json"}
    if "--megabytes" in options.xent_args:
        del given["--bytes"]
    given |= options.xent_args
    # Each is for one kind of backend, and refused for the other.
    given.pop("--adapter" if device == "cpu" else "--instructions", None)
    # Memory that torch keeps for later is of use here. On a device that has failed even this fails.
    with contextlib.suppress(Exception):
        torch.cuda.empty_cache()
    bandwidths, results = [], []
    try:
        command = [str(options.xent), "bench", *(f"{name}={value}" for name, value in given.items())]
        done = subprocess.run(command, capture_output=True, text=True)
        # Where a backend fails there is JSON all the same, with what the others did.
        said = json.loads(done.stdout) if done.stdout else {}
        bandwidths = [width | {"backend": f"xent {width['backend']}", **tags(case)} for width in said.get("bandwidths", [])]
        results = [result | {"backend": f"xent {result['backend']}"} for result in said.get("results", [])]
        failures = [(failure["adapter"], failure["reason"]) for failure in said.get("failures", [])]
        if not failures and (done.returncode or not results):
            failures = [(adapter(device), last_words(done))]
    except Exception as error:  # no such program, or one that says something else
        failures = [(adapter(device), reason(error))]
    for name, why in failures:
        results.append({"backend": "xent cpu" if device == "cpu" else "xent gpu", "adapter": name, **case, "failure": why})
    return bandwidths, results


def last_words(done):
    """Why xent ended early: what it says itself, of all that drivers say."""
    lines = done.stderr.splitlines()
    own = [line for line in lines if line.startswith(("xent: ", "error: "))]
    return (own or lines or [f"exit status {done.returncode}"])[-1]


def table(bandwidths, results):
    """A line for each pass, element and number of classes; GB/s, and the fraction of the same backend's own bandwidth."""
    cases, columns = {}, {}
    for result in results:
        # Options for xent may have asked for more.
        if result["input"] == "logits" and result["targets"] == "sparse":
            column = f"{result['backend']}, {result['adapter']}"
            columns.setdefault(column, len(columns) + 1)
            cases.setdefault((result["pass"], result["element"], result["classes"]), {})[column] = result
    for column, number in columns.items():
        print(f"({number}) {column}")
    compared = {f"{result['backend']}, {result['adapter']}": None for result in results if "times" in result}
    print(f"\n{'pass':8} {'element':7} {'classes':>7} " + "".join(f"{f'({n})':>16}" for n in columns.values())
          + "".join(f"{f'times ({columns[column]})':>12}" for column in compared))
    for (name, element, classes), row in cases.items():
        line = f"{name:8} {element:7} {classes:>7} "
        for column in columns:
            result = row.get(column, {})
            if "gbs" in result:
                mark = "" if result.get("correct", True) else "!"
                line += f"{mark:>2}{result['gbs']:8.2f} ({result['fraction']:.2f})"
            else:
                line += f"{'failed' if result else '':>16}"
        for column in compared:
            times = row.get(column, {}).get("times")
            line += f"{f'{times:.2f}' if times else '':>12}"
        print(line.rstrip())
    if compared:
        print("times: how many times as long as xent it took for as many rows")
    if any(r["backend"].startswith("xent") and r["pass"] == "both" and r["element"] != "f32" for r in results):
        print("both, 16 bits: torch and Triton write a gradient of 16 bits, xent one of float32, which GB/s count; times compare")
    for backend, device in dict.fromkeys((b["backend"], b["adapter"]) for b in bandwidths):
        for kind in "read", "copy":
            speed = statistics.median(b[f"{kind}_gbs"] for b in bandwidths if (b["backend"], b["adapter"]) == (backend, device))
            print(f"{kind} of {backend} on {device}: {speed:.1f} GB/s")
    for result in results:
        if "failure" in result:
            case = f"{result['pass']}, {result['element']}, {result['classes']} classes"
            print(f"{result['backend']}, {case}: {result['failure']}")
    if any(not result.get("correct", True) for result in results):
        print("! this answer is wrong")


def versions(options):
    """Versions of what takes part. One that cannot be had is left out."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    with contextlib.suppress(Exception):
        found["triton"] = importlib.import_module("triton").__version__
    with contextlib.suppress(Exception):
        found["xent"] = subprocess.run([options.xent, "--version"], capture_output=True, text=True).stdout.split()[-1]
    return found


def main():
    options = arguments()
    devices = options.devices or ["cpu"] + ["cuda"] * torch.cuda.is_available()
    if "cuda" in devices and not torch.cuda.is_available():
        sys.exit("bench.py: torch sees no CUDA")
    raw = {"date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
           "processor": f"{processor()}, {torch.get_num_threads()} threads of {os.cpu_count()}",
           "adapter": torch.cuda.get_device_name() if "cuda" in devices else None,
           "command": shlex.join(["bench.py", *sys.argv[1:]]), "versions": versions(options),
           "bandwidths": [], "results": []}

    def save():
        if options.json:
            options.json.write_text(json.dumps(raw, indent=2) + "\n")

    # A file that cannot be written fails before minutes of work.
    save()
    for device, name, element, classes in itertools.product(devices, options.passes, options.dtypes, options.classes):
        print(f"\r\x1b[K{device}, {name}, {element}, {classes} classes", end="", file=sys.stderr, flush=True)
        rows = max(1, (options.elements or ELEMENTS[device]) // classes)
        case = {"pass": name, "input": "logits", "targets": "sparse", "element": element, "rows": rows, "classes": classes}
        bandwidths, results = measure(device, case, options)
        raw["bandwidths"] += bandwidths
        raw["results"] += results
        save()
    print(file=sys.stderr)
    table(raw["bandwidths"], raw["results"])
    bad = sum("failure" in result or not result.get("correct", True) for result in raw["results"])
    if bad:
        sys.exit(f"bench.py: of {len(raw['results'])} results {bad} failed or are wrong")


if __name__ == "__main__":
    main()
