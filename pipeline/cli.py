"""The command line: a pipeline here or on a cluster, and one kind of stage alone."""

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline.errors import SupnormError, UserError
from pipeline.monitor.console import say, say_error
from pipeline.spec.load import STAGE_PACKAGE, Spec, load_spec

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The pipeline's YAML file, e.g. configs/x.yaml.")
]
StageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stage", metavar="STAGE", help="Only this stage (repeatable); its inputs must be there."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a setting: stages.train.epochs=3."),
]
RunsOption = Annotated[
    Path, typer.Option("--runs", metavar="DIR", help="Where the folders of results are.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Run what is up to date too, and resume nothing.")
]
RanksOption = Annotated[
    int | None,
    typer.Option("--ranks", min=1, metavar="N", help="Processes a stage; default one a GPU, or 1."),
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Read every byte: find files altered since.")
]
MemberOption = Annotated[
    int | None,
    typer.Option("--member", min=0, metavar="N", help="Only this member of a sweep, from 0."),
]
FlagsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[-- FLAGS OF SBATCH]", help="They win over the spec's resources."),
]

app = typer.Typer(
    help="Run pipelines from raw images to certified reports.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def check(
    context: typer.Context,
    config: ConfigArgument,
    stage: StageOption = None,
    overrides: SetOption = None,
) -> None:
    """Read the spec and name every mistake in it, with its line; starts nothing."""
    spec, _ = _load(context, config, overrides, stage)
    counts = Counter(stage.base for stage in spec.stages)
    names = [f"{name} (x {count})" if count > 1 else name for name, count in counts.items()]
    typer.echo(f"{config}: OK: {' -> '.join(names)}")


@app.command()
def plan(
    context: typer.Context,
    config: ConfigArgument,
    stage: StageOption = None,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    force: ForceOption = False,
) -> None:
    """Say which stages would run, and why."""
    from pipeline.execution.runner import refuse_stale_inputs  # noqa: PLC0415
    from pipeline.store.staleness import assess, what_would_happen  # noqa: PLC0415  `check` needs none of it

    spec, chosen = _load(context, config, overrides, stage)
    if chosen:
        refuse_stale_inputs(spec, runs / spec.name, chosen)
    for name, assessment in assess(spec, runs / spec.name).items():
        if not chosen or name in chosen:
            words = what_would_happen(assessment, force)
            say(name, words, is_done=assessment.is_up_to_date and not force)


@app.command()
def run(
    context: typer.Context,
    config: ConfigArgument,
    stage: StageOption = None,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    force: ForceOption = False,
    ranks: RanksOption = None,
) -> None:
    """Run every stage that is not up to date; after a stop, the same command goes on."""
    from pipeline.execution.runner import RunOptions, run_pipeline  # noqa: PLC0415  `check` needs none of it

    spec, chosen = _load(context, config, overrides, stage)
    options = RunOptions(runs, tuple(chosen), force, ranks, _this_command(context))
    is_first = run_pipeline(spec, options)
    for found in spec.stages if is_first else ():
        page = runs / spec.name / found.name / "index.html"
        if page.exists():
            say(found.name, f"open {page}")


@app.command()
def status(
    context: typer.Context,
    config: ConfigArgument,
    stage: StageOption = None,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    verify: VerifyOption = False,
) -> None:
    """Show how each stage stands, and when and how it was made."""
    from pipeline.cluster.status import print_status  # noqa: PLC0415  `check` needs none of it

    spec, chosen = _load(context, config, overrides, stage)
    print_status(spec, runs / spec.name, chosen, verify)


@app.command()
def submit(
    context: typer.Context,
    config: ConfigArgument,
    flags: FlagsArgument = None,
    stage: StageOption = None,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    force: ForceOption = False,
) -> None:
    """Send every stage that is not up to date to Slurm, as a chain of jobs."""
    from pipeline.cluster.submit import SubmitOptions, submit_pipeline  # noqa: PLC0415  only here

    spec, chosen = _load(context, config, overrides, stage)
    options = SubmitOptions(runs, tuple(chosen), force, tuple(overrides or ()), tuple(flags or ()))
    submit_pipeline(spec, options)


@app.command()
def cancel(
    context: typer.Context,
    config: ConfigArgument,
    stage: StageOption = None,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Cancel the Slurm jobs that still wait or run; the next start goes on where they stopped."""
    from pipeline.cluster.submit import cancel_jobs  # noqa: PLC0415  only here

    spec, chosen = _load(context, config, overrides, stage)
    cancel_jobs(spec, runs / spec.name, chosen)


@app.command(hidden=True)
def standing(
    context: typer.Context,
    kind: Annotated[str, typer.Argument()],
    config: ConfigArgument,
    stage: StageOption = None,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    force: ForceOption = False,
    ranks: RanksOption = None,
    member: MemberOption = None,
) -> None:
    """Say in one word to a job script whether its stages are done, else how far they are."""
    from pipeline.cluster.job_state import standing_of  # noqa: PLC0415  only here

    spec, chosen = _load(context, config, overrides, stage, kind, member)
    typer.echo(standing_of(spec, runs / spec.name, chosen))


def main(package: str = STAGE_PACKAGE) -> NoReturn:
    """Run the command line: `python -m pipeline`, or `supnorm`.

    Args:
        package: the package that holds the kinds of stage.
    """
    serve(app, package, "python -m pipeline")


def main_of_stage(kind: str, package: str = STAGE_PACKAGE) -> NoReturn:
    """Run the stages of one kind: `python -m stages.train CONFIG` and its like."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @alone.command(help=f"Run the stages of kind {kind}; the stages they read must be up to date.")
    def run_stages(
        context: typer.Context,
        config: ConfigArgument,
        stage: StageOption = None,
        overrides: SetOption = None,
        runs: RunsOption = Path("runs"),
        force: ForceOption = False,
        ranks: RanksOption = None,
        member: MemberOption = None,
    ) -> None:
        run_kind(kind, context, config, stage, overrides, runs, force, ranks, member)

    serve(alone, package, f"python -m {package}.{kind}")


def run_kind(
    kind: str,
    context: typer.Context,
    config: Path,
    stage: list[str] | None,
    overrides: list[str] | None,
    runs: Path,
    force: bool,
    ranks: int | None,
    member: int | None = None,
) -> None:
    """Run the stages of one kind, or those that `stage` names; the rest are options of `run`."""
    _, chosen = _load(context, config, overrides, stage, kind, member)
    run(context, config, chosen, overrides, runs, force, ranks)


def serve(commands: typer.Typer, package: str, program: str) -> NoReturn:
    """Run a command line; an error written for the user comes without a traceback.

    Args:
        commands: what can be called.
        package: the package that holds the kinds of stage.
        program: what the user typed to get here.
    """
    # The deepspeed launcher puts this in front of everything; the environment says it too.
    sys.argv[1:] = [word for word in sys.argv[1:] if not word.startswith("--local_rank=")]
    try:
        commands(obj=package, prog_name=program)
    except SupnormError as error:
        say_error(error)
        sys.exit(int(error.exit_code))
    sys.exit(0)


def _load(
    context: typer.Context,
    config: Path,
    overrides: list[str] | None,
    stages: list[str] | None,
    kind: str | None = None,
    member: int | None = None,
) -> tuple[Spec, list[str]]:
    """The spec, and the stages that were chosen by name, kind and member; none: all of them."""
    spec = load_spec(config, overrides or (), context.obj)
    if kind is None:
        return spec, [found.name for name in stages or () for found in spec.named(name)]
    of_kind = [found for found in spec.stages if found.kind == kind]
    if not of_kind:
        raise UserError(f"{config}: has no stage of kind {kind}")
    named = [found for name in stages for found in spec.named(name)] if stages else of_kind
    others = [found.name for found in named if found.kind != kind]
    if others:
        names = [found.name for found in of_kind]
        raise UserError(f"--stage {others[0]}: is no stage of kind {kind}; use {names}")
    chosen = [found.name for found in named if member is None or found.member == member]
    if not chosen:
        raise UserError(f"--member {member}: the sweep has no such member, counted from 0")
    return spec, chosen


def _this_command(context: typer.Context) -> str:
    """The command line as it was given; without --force, which would begin anew."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--force"]
    return f"{context.find_root().info_name} {shlex.join(arguments)}"
