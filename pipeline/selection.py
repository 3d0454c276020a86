"""Which pipeline a command is about, and which of its stages: the options that verbs share."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import UserError
from pipeline.spec.load import Spec, load_spec

Runs = Annotated[
    Path, typer.Option("--runs", metavar="DIR", help="The folder of results, one a pipeline.")
]


@dataclass(frozen=True)
class Selection:
    """A pipeline and a choice of its stages, as the command line gives them."""

    context: typer.Context
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="The pipeline's YAML file: configs/x.yaml.")
    ]
    stage: Annotated[
        list[str] | None,
        typer.Option(
            "--stage",
            metavar="STAGE",
            help="Only this stage (repeatable); its inputs must be there.",
        ),
    ] = None
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="Only stages of this kind: train, certify."),
    ] = None
    member: Annotated[
        int | None,
        typer.Option("--member", min=0, metavar="N", help="Only this member of a sweep, from 0."),
    ] = None
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Override a setting: stages.train.epochs=3."
        ),
    ] = None
    runs: Runs = Path("runs")

    def load(self) -> tuple[Spec, tuple[str, ...]]:
        """Read the spec, and find the stages that were chosen.

        Returns:
            The spec, and the names of the chosen stages; no name where all of them are meant.

        Raises:
            UserError: the spec has mistakes, or no stage is of this name, kind and member.
        """
        spec = load_spec(self.config, self.overrides or (), self.context.obj)
        chosen = [found for name in self.stage or () for found in spec.named(name)]
        if self.kind:
            of_kind = [found for found in spec.stages if found.kind == self.kind]
            if not of_kind:
                raise UserError(f"{self.config}: has no stage of kind {self.kind}")
            others = [found.name for found in chosen if found.kind != self.kind]
            if others:
                names = [found.name for found in of_kind]
                raise UserError(
                    f"--stage {others[0]}: is no stage of kind {self.kind}; use {names}"
                )
            chosen = chosen or of_kind
        if self.member is not None:
            chosen = [f for f in chosen or spec.stages if f.member == self.member]
            if not chosen:
                raise UserError(
                    f"--member {self.member}: the sweep has no such member, counted from 0"
                )
        return spec, tuple(found.name for found in chosen)


def over_pipeline(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of `Selection` in front of its own.

    Args:
        verb: takes a `Selection`, then what typer is to read besides.

    Returns:
        A function whose signature typer reads.
    """
    shared = inspect.signature(Selection).parameters
    _, *own = inspect.signature(verb).parameters.values()

    @functools.wraps(verb)
    def run_verb(**given: Any) -> None:
        selection = Selection(**{name: given.pop(name) for name in shared})
        verb(selection, **given)

    parameters = [*shared.values(), *own]
    signature = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    run_verb.__signature__ = signature  # type: ignore[attr-defined]
    run_verb.__annotations__ = {found.name: found.annotation for found in parameters}
    return run_verb
