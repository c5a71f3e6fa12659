"""Cross-entropy of rows of logits with class indices as one Triton kernel: losses, and the gradient in the same launch.

A program takes a tile of rows. Where a row fits into the tile it is read once; longer rows are folded lane by lane, online,
and read a second time for the gradient.
"""

import torch
import triton
import triton.language as tl

# Classes that a program keeps in registers.
WHOLE = 8192


@triton.jit
def _rows(logits, labels, losses, gradient, scale, rows, classes,
          GRADIENT: tl.constexpr, FITS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    start = row[:, None] * classes
    lane = tl.arange(0, BLOCK)[None, :]
    label = tl.load(labels + row, mask=there, other=0)
    of_label = tl.load(logits + row * classes + label, mask=there, other=0.0).to(tl.float32)
    if FITS:
        inside = there[:, None] & (lane < classes)
        x = tl.load(logits + start + lane, mask=inside, other=float("-inf")).to(tl.float32)
        top = tl.max(x, 1)
        powers = tl.exp(x - top[:, None])
        total = tl.sum(powers, 1)
        if GRADIENT:
            one_hot = (lane == label[:, None]).to(tl.float32)
            slope = (powers / total[:, None] - one_hot) * scale
            tl.store(gradient + start + lane, slope.to(gradient.dtype.element_ty), mask=inside)
    else:
        tops = tl.full((ROWS, BLOCK), float("-inf"), tl.float32)
        sums = tl.zeros((ROWS, BLOCK), tl.float32)
        for first in range(0, classes, BLOCK):
            inside = there[:, None] & (first + lane < classes)
            x = tl.load(logits + start + first + lane, mask=inside, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(tops, x)
            sums = sums * tl.exp(tops - higher) + tl.exp(x - higher)
            tops = higher
        top = tl.max(tops, 1)
        total = tl.sum(sums * tl.exp(tops - top[:, None]), 1)
        if GRADIENT:
            for first in range(0, classes, BLOCK):
                inside = there[:, None] & (first + lane < classes)
                x = tl.load(logits + start + first + lane, mask=inside, other=0.0).to(tl.float32)
                one_hot = (first + lane == label[:, None]).to(tl.float32)
                slope = (tl.exp(x - top[:, None]) / total[:, None] - one_hot) * scale
                tl.store(gradient + start + first + lane, slope.to(gradient.dtype.element_ty), mask=inside)
    tl.store(losses + row, tl.log(total) + top - of_label, mask=there)


def cross_entropy(logits, labels, losses, gradient=None, scale=1.0):
    """Writes each row's loss to `losses` (float32), and to `gradient` its derivative by the logits, times `scale`."""
    rows, classes = logits.shape
    fits = classes <= WHOLE
    block = triton.next_power_of_2(classes) if fits else 4096
    tile = max(1, 1024 // block)
    warps = 4 if block <= 1024 else 8 if block <= 4096 else 16
    _rows[(triton.cdiv(rows, tile),)](
        logits, labels, losses, logits if gradient is None else gradient, scale, rows, classes,
        GRADIENT=gradient is not None, FITS=fits, ROWS=tile, BLOCK=block, num_warps=warps)
    return losses


def check():
    """Compares the kernel with PyTorch's float64, on shapes of each of its ways. True where they agree."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(1)
    for rows, classes in [(1000, 2), (77, 10), (9, 1000), (3, 8192), (3, 9001)]:
        logits = torch.randn(rows, classes, generator=generator, device=device) * 3
        labels = torch.randint(classes, (rows,), generator=generator, device=device)
        losses, gradient = torch.empty(rows, device=device), torch.full_like(logits, float("nan"))
        cross_entropy(logits, labels, losses, gradient, 2.0)
        exact = logits.double().requires_grad_()
        loss = torch.nn.functional.cross_entropy(exact, labels, reduction="none")
        loss.sum().backward()
        near = torch.allclose(losses.double(), loss, rtol=1e-5, atol=1e-5)
        if not near or not torch.allclose(gradient.double() / 2, exact.grad, rtol=1e-4, atol=1e-6):
            print(f"{rows} rows of {classes} classes differ")
            return False
    return True


if __name__ == "__main__":
    # Without a GPU: TRITON_INTERPRET=1 python triton_kernel.py
    raise SystemExit(0 if check() else 1)
