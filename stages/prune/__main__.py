"""`python -m stages.prune`: the prune stages of a pipeline, or a network as one file for NumPy."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import (
    ForceOption,
    MemberOption,
    RanksOption,
    RunsOption,
    SetOption,
    StageOption,
    run_kind,
    serve,
)
from pipeline.spec.load import STAGE_PACKAGE

commands = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@commands.command(no_args_is_help=True)
def prune(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="CONFIG, a pipeline's YAML file; with --export the folder of network.int.json.",
            show_default=False,
        ),
    ],
    export: Annotated[
        bool, typer.Option("--export", help="Write a certified network as one file for NumPy.")
    ] = False,
    output: Annotated[
        Path,
        typer.Option("--output", metavar="FILE", help="With --export: the file to write."),
    ] = Path("network.npz"),
    stage: StageOption = None,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    force: ForceOption = False,
    ranks: RanksOption = None,
    member: MemberOption = None,
) -> None:
    """Run a pipeline's prune stages; or export a certified network.

    CONFIG: run its prune stages; the stages they read must be up to date.

    --export DIR: write the integer network that a certify stage left in DIR as one .npz file, and
    beside it numpy_network.py, a page of NumPy that runs it and certifies pictures without torch.
    """
    if export:
        from tools.export import export_network  # noqa: PLC0415  torch takes seconds

        export_network(path, output)
        return
    run_kind("prune", context, path, stage, overrides, runs, force, ranks, member)


serve(commands, STAGE_PACKAGE, "python -m stages.prune")
