"""Measures PyTorch's cross-entropy, eager and compiled, on the CPU and on CUDA, and a Triton kernel where there is one.

Logits with class indices; everyone's answer is checked against float64 before it is timed; contestants take turns, and with
them a read and a copy of the same bytes; medians. `xent bench` runs beside it, so that one table has both.
"""

import argparse
import datetime
import importlib.util
import json
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

CLASSES = [2, 10, 100, 1000, 8192, 32000, 128256]
ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 28}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# An answer further from the truth than this, and than its own type's rounding, is wrong.
WRONG = 1e-3
# Seconds after which a contestant that has had three runs is left out of the other rounds.
ENOUGH = 2.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: text.split(",")
    parser.add_argument("--devices", type=names, help="cpu,cuda (default: what there is)")
    parser.add_argument("--passes", type=names, default=["forward", "both"], help="forward,both (default: forward,both)")
    parser.add_argument("--elements", type=int, help="logits of a batch (default: 2^24 on the CPU, 2^28 on CUDA)")
    parser.add_argument("--dtypes", type=names, default=list(DTYPES), help="f32,f16,bf16 (default: all)")
    parser.add_argument("--classes", type=lambda text: [int(c) for c in text.split(",")], default=CLASSES)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each (default: 9)")
    parser.add_argument("--no-compile", action="store_true", help="leaves torch.compile out")
    parser.add_argument("--xent", type=Path, help="the program xent, whose `bench` then runs as well")
    parser.add_argument("--xent-args", type=shlex.split, default=[], help="more arguments for `xent bench`")
    parser.add_argument("--json", type=Path, help="where the raw results go")
    return parser.parse_args()


def mean_loss(logits, labels):
    """The mean loss. Of 16-bit logits it is taken in float32: their own type has no room for it."""
    if logits.dtype == torch.float32:
        return F.cross_entropy(logits, labels)
    return F.cross_entropy(logits, labels, reduction="none").float().mean()


class Torch:
    """`mean_loss` and its gradient, eager or compiled."""

    def __init__(self, name, data, gradient, compiled):
        self.name, self.data, self.with_gradient, self.loss = name, data, gradient, mean_loss
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

    def __init__(self, name, data, gradient):
        from triton_kernel import cross_entropy

        self.name, self.data, self.kernel = name, data, cross_entropy
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

    def __init__(self, device, dtype, classes, elements):
        self.classes, self.rows = classes, max(1, elements // classes)
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
                error = max(error, exact.abs().max().item())
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


def contestants(device, data, gradient, compiled):
    """Who there is; a contestant that does not get through its first runs is told apart by its reason."""
    makers = [("torch eager", lambda name: Torch(name, data, gradient, False))]
    if compiled:
        makers.append(("torch.compile", lambda name: Torch(name, data, gradient, True)))
    if device == "cuda" and importlib.util.find_spec("triton"):
        makers.append(("triton", lambda name: Triton(name, data, gradient)))
    tolerance = WRONG + torch.finfo(data.logits.dtype).eps
    for name, make in makers:
        try:
            contestant = make(name)
            contestant.run()
            contestant.error = data.error(contestant, gradient)
            contestant.correct = contestant.error <= tolerance
            contestant.run()
            yield name, contestant, None
        except Exception as error:  # whatever a compiler or a driver throws
            yield name, None, f"{type(error).__name__}: {error}".splitlines()[0]


def measure(device, element, classes, gradient, options):
    """One row of the table: what is timed over the same data, in turn."""
    data = Data(device, DTYPES[element], classes, options.elements or ELEMENTS[device])
    seats = list(contestants(device, data, gradient, not options.no_compile))
    # A sum of float32 reads at full speed, whatever the bytes mean.
    words = data.logits.view(-1)[: data.logits.numel() // 2 * 2].view(torch.float32)
    other = torch.empty_like(data.logits)
    yardsticks = {"read": words.sum, "copy": lambda: other.copy_(data.logits)}
    timed, times = clock(device), {}
    for run in yardsticks.values():
        run()
    for _ in range(options.rounds):
        for name, contestant, _ in seats:
            mine = times.setdefault(name, [])
            if contestant and not (len(mine) >= 3 and sum(mine) > ENOUGH):
                mine.append(timed(contestant.run))
        for name, run in yardsticks.items():
            times.setdefault(name, []).append(timed(run))
    read = data.bytes / statistics.median(times["read"]) / 1e9
    copy = 2 * data.bytes / statistics.median(times["copy"]) / 1e9
    # A logit once, twice with a gradient; 4 bytes for a label, as it is counted everywhere here.
    needed = data.bytes * (2 if gradient else 1) + 4 * data.rows
    results = []
    for name, contestant, failure in seats:
        result = {"backend": name, "adapter": adapter(device), "pass": "both" if gradient else "forward", "input": "logits",
                  "targets": "sparse", "element": element, "rows": data.rows, "classes": classes}
        if failure:
            result["failure"] = failure
        else:
            seconds = statistics.median(times[name])
            gbs = needed / seconds / 1e9
            result |= {"seconds": seconds, "gbs": gbs, "fraction": gbs / (copy if gradient else read),
                       "error": contestant.error, "correct": contestant.correct}
        results.append(result)
    return {"backend": "torch", "adapter": adapter(device), "pass": results[0]["pass"], "element": element,
            "classes": classes, "read_gbs": read, "copy_gbs": copy}, results


def adapter(device):
    return processor() if device == "cpu" else torch.cuda.get_device_name()


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def xent(options):
    """What `xent bench` says, as its own JSON."""
    command = [options.xent, "bench", "--format", "json", *options.xent_args]
    print(f"\n{shlex.join(map(str, command))}", file=sys.stderr)
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def table(bandwidths, results):
    """A line for each pass, element and number of classes; GB/s, and the fraction of the same backend's own bandwidth."""
    cases, columns = {}, {}
    for result in results:
        if result["input"] == "logits" and result["targets"] == "sparse":
            column = f"{result['backend']}, {result['adapter']}"
            columns[column] = None
            cases.setdefault((result["pass"], result["element"], result["classes"]), {})[column] = result
    for number, column in enumerate(columns, 1):
        print(f"({number}) {column}")
    reads = [b for b in bandwidths if "pass" in b]
    print(f"\n{'pass':8} {'element':7} {'classes':>7} " + "".join(f"{f'({n})':>16}" for n in range(1, len(columns) + 1)))
    for (name, element, classes), row in cases.items():
        line = f"{name:8} {element:7} {classes:>7} "
        for column in columns:
            result = row.get(column, {})
            if "gbs" in result:
                mark = "" if result.get("correct", True) else "!"
                line += f"{mark:>2}{result['gbs']:8.2f} ({result['fraction']:.2f})"
            else:
                line += f"{'failed' if result else '':>16}"
        print(line.rstrip())
    for device in dict.fromkeys(b["adapter"] for b in reads):
        for kind in "read", "copy":
            speed = statistics.median(b[f"{kind}_gbs"] for b in reads if b["adapter"] == device)
            print(f"torch's own {kind} on {device}: {speed:.1f} GB/s")
    for result in results:
        if "failure" in result:
            print(f"{result['backend']}, {result['pass']}, {result['classes']} classes: {result['failure']}")
    if any(not result.get("correct", True) for result in results):
        print("! this answer is wrong")


def main():
    options = arguments()
    devices = options.devices or ["cpu"] + ["cuda"] * torch.cuda.is_available()
    bandwidths, results = [], []
    for device in devices:
        for name in options.passes:
            for element in options.dtypes:
                for classes in options.classes:
                    print(f"\r\x1b[K{device}, {name}, {element}, {classes} classes", end="", file=sys.stderr, flush=True)
                    bandwidth, found = measure(device, element, classes, name == "both", options)
                    bandwidths.append(bandwidth)
                    results += found
    if options.xent:
        ours = xent(options)
        bandwidths += ours["bandwidths"]
        results += [result | {"backend": f"xent {result['backend']}"} for result in ours["results"]]
    print(file=sys.stderr)
    table(bandwidths, results)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    if importlib.util.find_spec("triton"):
        versions["triton"] = importlib.import_module("triton").__version__
    if options.xent:
        version = subprocess.run([options.xent, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
        versions["xent"] = version.split()[-1]
    raw = {"date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
           "processor": f"{processor()}, {torch.get_num_threads()} threads of {os.cpu_count()}",
           "adapter": torch.cuda.get_device_name() if "cuda" in devices else None,
           "command": shlex.join(["bench.py", *sys.argv[1:]]), "versions": versions,
           "bandwidths": bandwidths, "results": results}
    if options.json:
        options.json.write_text(json.dumps(raw, indent=2) + "\n")


if __name__ == "__main__":
    main()
