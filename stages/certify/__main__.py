"""`python -m stages.certify`: the certify stages of a pipeline, any picture, or an audit."""

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
from pipeline.errors import UserError
from pipeline.spec.load import STAGE_PACKAGE

commands = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@commands.command(no_args_is_help=True)
def certify(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="CONFIG, a pipeline's YAML file; or pictures; or records.csv of a certify stage.",
            show_default=False,
        ),
    ],
    image: Annotated[
        bool, typer.Option("--image", help="Certify pictures: class, proved radius, proof.")
    ] = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Prove rows of RECORDS again, and try to break them."),
    ] = False,
    network: Annotated[
        Path | None,
        typer.Option(
            "--network",
            metavar="DIR",
            help="With --image: folder of network.int.json; default: the one under runs.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="With --audit: the shards; default: as stage.json says."
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option("--sample", min=1, metavar="N", help="With --audit: rows proved by hand."),
    ] = 50,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="With --audit: which rows; default: any."),
    ] = None,
    stage: StageOption = None,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    force: ForceOption = False,
    ranks: RanksOption = None,
    member: MemberOption = None,
) -> None:
    """Run a pipeline's certify stages; or certify any picture; or audit what was certified.

    CONFIG: run its certify stages; the stages they read must be up to date.

    --image FILE...: print each picture's class and the radius up to which no change can alter it.

    --audit RECORDS: re-prove every row, some of them in plain Python integers, compare every image
    with the shards, and attack what is certified.
    """
    if image and audit:
        raise UserError("--image and --audit are two tasks; choose one")
    if image:
        from tools.certify_image import print_pictures  # noqa: PLC0415  torch takes seconds

        print_pictures(paths, network, runs)
        return
    if len(paths) > 1:
        raise UserError(f"one path was expected, not {len(paths)}; pictures need --image")
    if audit:
        from tools.audit import audit_records  # noqa: PLC0415

        audit_records(paths[0], data, sample, seed)
        return
    run_kind("certify", context, paths[0], stage, overrides, runs, force, ranks, member)


serve(commands, STAGE_PACKAGE, "python -m stages.certify")
