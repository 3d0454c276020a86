"""The order of stages that their inputs ask for; what is wrong with it is said by name."""

from collections.abc import Iterator, Mapping

from pipeline.spec.diagnostics import KeyPath, did_you_mean, shown
from pipeline.spec.settings import Inputs, input_path

Wiring = Mapping[str, Mapping[str, str]]
"""Stage name -> input name -> name of the stage that it comes from."""


def running_order(wiring: Wiring) -> list[str]:
    """Every stage behind the stages that it reads; otherwise as written in the spec.

    The graph must have no mistake: see `wiring_mistakes`.
    """
    order: list[str] = []

    def visit(stage: str) -> None:
        if stage not in order:
            for source in wiring[stage].values():
                visit(source)
            order.append(stage)

    for stage in wiring:
        visit(stage)
    return order


def wiring_mistakes(
    wiring: Wiring, kinds: Mapping[str, str], inputs: Mapping[str, type[Inputs]]
) -> Iterator[tuple[KeyPath, str]]:
    """Every input that names no stage, a stage of an unfit kind, or closes a circle.

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
    """Each circle once, from the stage written first in it and back to it: [a, b, a]."""
    seen: set[frozenset[str]] = set()
    for start in wiring:
        path = _path_back(wiring, start)
        if path and not (set(path) & set().union(*seen)):
            seen.add(frozenset(path))
            yield path


def _path_back(wiring: Wiring, start: str) -> list[str] | None:
    """A shortest way from a stage along its inputs back to itself."""
    paths, reached = [[start]], {start}
    for path in paths:
        for source in wiring[path[-1]].values():
            if source == start:
                return [*path, start]
            if source in wiring and source not in reached:
                reached.add(source)
                paths.append([*path, source])
    return None
