"""Times the operators beside torch.cdist and a composition of torch operations, in one run.

    python -m kernels.bench [--markdown] [--json FILE]
        [--network network.safetensors --images IDX_FILE]
    python -m kernels.bench --static      what the CUDA kernels cost, by their machine code
    python -m kernels.bench --waiting     how much busy processes slow a step down

First it measures what this machine's arithmetic allows. An element is one (sample, output, input)
triple; ratios are against torch.cdist on the same operands; the share is of the fastest instruction
set's limit. With a trained network it also times that network's hidden layers on real images,
forward and backward, with and without the skipping of inputs that cannot matter.
"""

import argparse
import json
import math
import platform
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch

from kernels.bench import limits, waiting
from kernels.bench.cases import parse_with_network, random_cases, trained_cases
from kernels.bench.limits import Limits
from kernels.bench.markdown import (
    limits_table,
    random_table,
    trained_table,
    waiting_table,
)
from kernels.bench.static import print_table
from kernels.bench.timing import Timing, time_random, time_trained


def main() -> None:
    """Print the tables; write them as JSON too where asked."""
    args = _arguments()
    if args.static:
        print_table()
        return
    if args.waiting:
        print(waiting_table(waiting.measure()))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
    measured = limits.measure()
    _print_limits(measured)
    best = Limits(
        max((limit.maximum for limit in measured.values()), default=math.nan),
        max((limit.eighth_power for limit in measured.values()), default=math.nan),
    )
    random = _print_table((time_random(case) for case in random_cases()), best)
    trained: list[Timing] = []
    if args.network:
        cases = trained_cases(args.network, args.images)
        trained = _print_table((time_trained(case) for case in cases), best)
    if args.markdown:
        tables = [limits_table(measured), random_table(random, best), trained_table(trained)]
        print("", *tables, sep="\n\n")
    if args.json:
        limit_rows = {name: asdict(limit) for name, limit in measured.items()}
        rows = [asdict(timing) | {"p": str(timing.p)} for timing in random + trained]
        args.json.write_text(json.dumps({"limits": limit_rows, "timings": rows}, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kernels.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--markdown", action="store_true", help="the tables of docs/benchmarks.md at the end"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument(
        "--static", action="store_true", help="count the CUDA kernels' instructions instead"
    )
    parser.add_argument("--waiting", action="store_true", help="time steps beside busy processes")
    return parse_with_network(parser)


def _print_limits(measured: dict[str, Limits]) -> None:
    print("\nThe machine's limits, G elements/s with operands in registers:")
    for name, limit in measured.items():
        print(f"{name:>18}  p = infinity {limit.maximum:6.1f}   p = 8 {limit.eighth_power:6.1f}")


def _print_table(results: Iterable[list[Timing]], limit: Limits) -> list[Timing]:
    """Print each case's timings as they come, the first of each being what the others are against.

    Returns:
        All of them.
    """
    print(f"\n{'':>24} {'p':>6} {'':>16} {'G elements/s: forward':>30} {'forward + backward':>20}")
    everything = []
    for timings in results:
        for timing in timings:
            print(_line(timing, timings[0], limit), flush=True)
        everything += timings
    return everything


def _line(timing: Timing, base: Timing, limit: Limits) -> str:
    share = ""
    if timing.p in (8.0, math.inf):
        best = limit.maximum if math.isinf(timing.p) else limit.eighth_power
        share = f"{timing.forward / best:.0%}"
    return (
        f"{timing.case:>24} {timing.p:>6g} {timing.implementation:>16}"
        f" {timing.forward:>9.3f} {timing.forward / base.forward:>8.1f}x {share:>10}"
        f" {timing.both:>11.3f} {timing.both / base.both:>7.1f}x"
    )


if __name__ == "__main__":
    main()
