"""The order in which stages run, and the mistakes in what they read."""

import heapq
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from pipeline.spec.diagnostics import KeyPath, did_you_mean, shown
from pipeline.spec.settings import Inputs, input_path

Wiring = Mapping[str, Mapping[str, str]]
"""Stage name -> input name -> name of the stage that it comes from."""


def running_order(wiring: Wiring) -> list[str]:
    """Sort stages so that each follows those it reads; of those ready, the first in the spec runs.

    The graph must have no mistake: see `wiring_mistakes`.
    """
    names = list(wiring)
    numbers = {stage: number for number, stage in enumerate(names)}
    sorter = TopologicalSorter({stage: wiring[stage].values() for stage in names})
    sorter.prepare()
    order: list[str] = []
    ready: list[int] = []
    while sorter.is_active():
        for stage in sorter.get_ready():
            heapq.heappush(ready, numbers[stage])
        order.append(names[heapq.heappop(ready)])
        sorter.done(order[-1])
    return order


def wiring_mistakes(
    wiring: Wiring, kinds: Mapping[str, str], inputs: Mapping[str, type[Inputs]]
) -> Iterator[tuple[KeyPath, str]]:
    """Find every input that names no stage, names one of a wrong kind, or closes a circle.

    Args:
        wiring: the inputs as written; they may name stages that do not exist.
        kinds: stage name -> kind, of every stage whose kind is known.
        inputs: stage name -> the inputs that its kind declares.

    Yields:
        The path of the input in the spec, and the message.
    """
    for stage, sources in wiring.items():
        for name, source in sources.items():
            message = _misfit(stage, name, source, wiring, kinds, inputs)
            if message:
                yield ("stages", stage, "inputs", *input_path(name)), message
    for circle in _circles(wiring):
        stage, source = circle[0], circle[1]
        name = next(name for name, given in wiring[stage].items() if given == source)
        message = f"the stages wait for each other: {' -> '.join(circle)}; cut one of these inputs"
        yield ("stages", stage, "inputs", *input_path(name)), message


def _misfit(
    stage: str,
    name: str,
    source: str,
    wiring: Wiring,
    kinds: Mapping[str, str],
    inputs: Mapping[str, type[Inputs]],
) -> str:
    if source not in wiring:
        others = [other for other in wiring if other != stage]
        advice = did_you_mean(source, others) or "the spec has no other stage"
        return f"no stage is called {shown(source)}; {advice}"
    declared = inputs.get(stage)
    fit = declared.kinds_that_fit(name) if declared and declared.has(name) else None
    if fit is None or source not in kinds or kinds[source] in fit:
        return ""
    able = [other for other, kind in kinds.items() if kind in fit and other != stage]
    advice = did_you_mean(source, able) or "the spec has none yet"
    return (
        f'"{source}" is a stage of kind {kinds[source]}, but a stage of kind '
        f"{' or '.join(fit)} is needed; {advice}"
    )


def _circles(wiring: Wiring) -> Iterator[list[str]]:
    """Name circles that share no stage, each from its first stage in the spec: [a, b, a]."""
    left = list(wiring)
    while True:
        sources = {stage: [x for x in wiring[stage].values() if x in left] for stage in left}
        try:
            return TopologicalSorter(sources).prepare()
        except CycleError as error:
            circle = error.args[1][:0:-1]
        start = circle.index(min(circle, key=left.index))
        yield [*circle[start:], *circle[: start + 1]]
        left = [stage for stage in left if stage not in circle]
