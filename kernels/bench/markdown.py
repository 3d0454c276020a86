"""The figures as the Markdown tables that ``docs/benchmarks.md`` holds."""

import math
from collections.abc import Iterable, Mapping, Sequence

from kernels.bench.limits import Limits
from kernels.bench.timing import EVERY_INPUT, SKIPPING, SKIPPING_AVX2, Timing
from kernels.bench.waiting import NUM_BUSY, Step

TRAINED = (EVERY_INPUT, SKIPPING, SKIPPING_AVX2)


def limits_table(limits: dict[str, Limits]) -> str:
    """What the machine's arithmetic allows, G elements/s."""
    rows = [(name, _short(of.maximum), _short(of.eighth_power)) for name, of in limits.items()]
    return _table(("limit, G elements/s", "p = infinity", "p = 8"), rows)


def random_table(timings: Sequence[Timing], best: Limits) -> str:
    """Forward / forward + backward, times torch.cdist in brackets.

    The share of the limit is that of the kernel which looks at every input.
    """
    cases = _by_case(timings)
    names = [timing.implementation for timing in cases[0]]
    header = ("B, inputs -> outputs", "p", *names, "share of the limit")
    rows = []
    for case in cases:
        cells = [_rates(case[0]), *(_against(timing, case[0]) for timing in case[1:])]
        rows.append((case[0].case, f"{case[0].p:g}", *cells, _share(case, best)))
    return _table(header, rows)


def trained_table(timings: Sequence[Timing]) -> str:
    """Hidden layers of a trained network: what skipping gains, forward + backward."""
    header = ("layer", "p", "torch.cdist", *TRAINED, "by skipping, both")
    rows = []
    for case in _by_case(timings):
        of = {timing.implementation: timing for timing in case}
        gain = f"{of[SKIPPING].both / of[EVERY_INPUT].both:.1f}x"
        cells = [_against(of[name], case[0]) if name in of else "" for name in TRAINED]
        rows.append((case[0].case, f"{case[0].p:g}", _rates(case[0]), *cells, gain))
    return _table(header, rows)


def waiting_table(figures: Mapping[str, Sequence[Step]]) -> str:
    """Milliseconds of a step, mean / slowest tenth, and how many times the mean alone."""
    header = ("OMP_WAIT_POLICY", *(f"busy processes beside it: {count}" for count in NUM_BUSY))
    rows = []
    for policy, steps in figures.items():
        cells = [f"{s.mean:.0f} / {s.slow:.0f} ({s.mean / steps[0].mean:.1f}x)" for s in steps]
        rows.append((policy, *cells))
    return _table(header, rows)


def _by_case(timings: Sequence[Timing]) -> list[list[Timing]]:
    cases: dict[tuple[str, float], list[Timing]] = {}
    for timing in timings:
        cases.setdefault((timing.case, timing.p), []).append(timing)
    return list(cases.values())


def _rates(timing: Timing) -> str:
    return f"{_short(timing.forward)} / {_short(timing.both)}"


def _against(timing: Timing, base: Timing) -> str:
    ratios = (timing.forward / base.forward, timing.both / base.both)
    return f"{_rates(timing)} ({' / '.join(f'{_short(ratio)}x' for ratio in ratios)})"


def _share(case: Sequence[Timing], best: Limits) -> str:
    limit = {8.0: best.eighth_power, math.inf: best.maximum}.get(case[0].p)
    if limit is None:
        return ""
    every = next(timing for timing in case if timing.implementation == EVERY_INPUT)
    return f"{every.forward / limit:.0%}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
