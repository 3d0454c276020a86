"""On a machine with a GPU: compile, check against float64, time; results as JSON.

    python -m kernels.bench.gpu [--json FILE] [--seconds S]
        [--network network.safetensors --images IDX_FILE]

Times are the least of several runs by CUDA events, after a warm-up. With a trained network its
hidden layers are timed too, where most inputs can be left out. The training iteration is that
of the network that configs/ trains at full size: forward, backward and Adam, batch 512; with
torch's Adam, then with Adam and l_p decay in one kernel.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels import reference
from kernels.backend import backend
from kernels.bench.cases import parse_with_network, trained_cases
from kernels.bench.timing import cdist, composed, ours
from kernels.cuda.adam import control_of, decayed_adam_
from kernels.cuda.driver import gpu

LAYERS = ((512, 5120, 5120), (512, 3072, 5120), (512, 5120, 10))
"""(B, I, O)."""
NORMS = (8.0, 24.0, 37.5, 100.5, 300.5, math.inf)
NETWORK = (3072, 5120, 5120, 5120, 5120, 5120, 10)
CHECKED = ((300, 700, 520), (64, 1000, 10), (130, 333, 77))
CDIST_BATCH, PLAIN_BATCH = 64, 16
"""The gradient of torch.cdist keeps every element in memory, a composition of torch operations does
so several times: they get smaller batches."""


def main() -> int:
    """Run all, and say so where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument("--seconds", type=float, default=1.0, help="least time for each figure")
    arguments = parse_with_network(parser)
    if not torch.cuda.is_available() or backend().cuda == "reference":
        print("kernels: no GPU, or no kernels for it, on this machine", file=sys.stderr)
        return 1
    results = {
        "date": datetime.date.today().isoformat(),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "errors": list(_errors()),
        "layers": list(_layers(arguments.seconds)),
        "trained": list(_trained(arguments)) if arguments.network else [],
        "iterations": list(_iterations(arguments.seconds)),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def _errors() -> Iterator[dict[str, Any]]:
    """Relative errors against float64, beside those of the formula in float32."""
    for shape in CHECKED:
        x, weight = _operands(shape)
        for p in NORMS:
            exact = _reference(x.double(), weight.double(), p)
            error = _error(ours(x, weight, p), exact)
            plain = _error(_reference(x, weight, p), exact)
            print(f"{shape!s:>18} p {p:>6g}  error {error:.1e}  formula in float32 {plain:.1e}")
            yield {"shape": shape, "p": str(p), "error": error, "formula": plain}


def _layers(seconds: float) -> Iterator[dict[str, Any]]:
    """Milliseconds of one layer, forward and with both gradients."""
    for shape in LAYERS:
        for p in NORMS:
            for name, distance, batch in (
                ("ours", ours, shape[0]),
                ("torch.cdist", cdist, CDIST_BATCH),
                ("torch operations", composed, PLAIN_BATCH),
            ):
                part = (batch, *shape[1:])
                times = _time_layer(distance, *_operands(part), p, seconds)
                yield _layer_row(f"{part}", name, math.prod(part), p, times)


def _trained(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Milliseconds of a trained network's layers."""
    for case in trained_cases(arguments.network, arguments.images):
        x, weight = case.x.cuda(), case.weight.cuda()
        times = _time_layer(ours, x, weight, case.p, arguments.seconds)
        yield _layer_row(case.name, "ours", case.num_elements, case.p, times)


def _layer_row(
    case: str, name: str, num_elements: int, p: float, times: tuple[float, float]
) -> dict[str, Any]:
    forward, both = times
    rates = [num_elements / ms / 1e9 for ms in times]
    print(
        f"{case:>28} p {p:>6g} {name:>16}: {forward:9.3f} ms {both:9.3f} ms  "
        f"{rates[0]:8.3f} {rates[1]:8.3f} T elements/s",
        flush=True,
    )
    row = {"case": case, "p": str(p), "implementation": name}
    return row | {"forward_ms": forward, "both_ms": both}


def _time_layer(
    distance: Callable[[Tensor, Tensor, float], Tensor],
    x: Tensor,
    weight: Tensor,
    p: float,
    seconds: float,
) -> tuple[float, float]:
    grad = torch.randn(x.shape[0], weight.shape[0], device="cuda")
    with torch.no_grad():
        forward = _least_ms(lambda: distance(x, weight, p), seconds)
    x.requires_grad_()
    weight.requires_grad_()
    both = _least_ms(
        lambda: torch.autograd.grad(distance(x, weight, p), (x, weight), grad), seconds
    )
    return forward, both


def _iterations(seconds: float) -> Iterator[dict[str, Any]]:
    """Milliseconds of one training iteration of the whole network."""
    for p in NORMS:
        weights = [_start(i, o) for i, o in itertools.pairwise(NETWORK)]
        x = torch.randn(512, NETWORK[0], device="cuda")
        plain = _least_ms(partial(_plain_iteration(weights, x), p), seconds)
        fused = _least_ms(partial(_fused_iteration(weights, x, p), p), seconds)
        print(
            f"iteration of {len(weights)} layers, p {p:>6g}: {plain:9.3f} ms, "
            f"with fused Adam {fused:9.3f} ms",
            flush=True,
        )
        yield {"p": str(p), "ms": plain, "fused_ms": fused}


def _plain_iteration(weights: list[Tensor], x: Tensor) -> Callable[[float], None]:
    optimiser = torch.optim.Adam(weights, fused=True)

    def iterate(p: float) -> None:
        optimiser.zero_grad()
        torch.autograd.backward(_loss(weights, x, p))
        optimiser.step()

    return iterate


def _fused_iteration(weights: list[Tensor], x: Tensor, p: float) -> Callable[[float], None]:
    moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]
    control = control_of(1, 1e-3, 0.005, p, (0.9, 0.99), 1e-10).cuda()

    def iterate(p: float) -> None:
        for weight in weights:
            weight.grad = None
        torch.autograd.backward(_loss(weights, x, p))
        for weight, (mean, square) in zip(weights, moments, strict=True):
            assert weight.grad is not None
            decayed_adam_(gpu(x.device.index), weight.data, weight.grad, mean, square, control)

    return iterate


def _loss(weights: list[Tensor], x: Tensor, p: float) -> Tensor:
    for weight in weights:
        x = ours(x, weight, p)
        x = x - x.mean(0)
    return x.square().mean()


def _start(num_inputs: int, num_outputs: int) -> Tensor:
    weight = torch.randn(num_outputs, num_inputs, device="cuda")
    if num_inputs <= num_outputs:
        outputs = torch.arange(num_outputs, device="cuda")
        weight[outputs, outputs % num_inputs] = -10.0
    return weight.requires_grad_()


def _operands(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(shape[0], shape[1], device="cuda", generator=generator)
    return x, torch.randn(shape[2], shape[1], device="cuda", generator=generator)


def _reference(x: Tensor, weight: Tensor, p: float) -> Tensor:
    if math.isinf(p):
        return reference.linf_distance(x, weight, 1)
    return reference.lp_distance(x, weight, p, 1)


def _error(value: Tensor, exact: Tensor) -> float:
    return ((value.double() - exact).abs().max() / exact.abs().max()).item()


def _least_ms(run: Callable[[], object], seconds: float) -> float:
    """The first run compiles; then at least three, and as many as fit into the time."""
    run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < 1000 * seconds:
        begin, end = _event(), _event()
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return min(times)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    sys.exit(main())
