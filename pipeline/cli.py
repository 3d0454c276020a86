"""The command line: `supnorm`, or `python -m pipeline`, and every verb that it has.

The verbs over a pipeline stand here. Any other is a file `tools/<verb>.py` with a typer command
called like the file; it is found by its name and imported only when it is called.
"""

import ast
import importlib
import importlib.util
import os
import pkgutil
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.errors import SupnormError
from pipeline.monitor.console import say, say_error
from pipeline.selection import Selection, over_pipeline
from pipeline.spec.load import STAGE_PACKAGE

TOOLS_PACKAGE = "tools"
"""Holds a module for each verb that no pipeline needs."""

HELP = ["-h", "--help"]

Force = Annotated[
    bool, typer.Option("--force", help="Run what is up to date too, and resume nothing.")
]
Ranks = Annotated[
    int | None,
    typer.Option("--ranks", min=1, metavar="N", help="Processes a stage; default one a GPU, or 1."),
]

app = typer.Typer(
    help="Run pipelines from raw images to certified reports.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP},
)


@app.command()
@over_pipeline
def check(selection: Selection) -> None:
    """Read the spec and name every mistake in it, with its line; starts nothing."""
    spec, _ = selection.load()
    counts = Counter(stage.base for stage in spec.stages)
    names = [f"{name} (x {count})" if count > 1 else name for name, count in counts.items()]
    print(f"{selection.config}: OK: {' -> '.join(names)}")


@app.command()
@over_pipeline
def plan(selection: Selection, force: Force = False) -> None:
    """Say which stages would run, and why."""
    from pipeline.execution.runner import refuse_stale_inputs
    from pipeline.store.staleness import assess, what_would_happen

    spec, chosen = selection.load()
    run_dir = selection.runs / spec.name
    if chosen:
        refuse_stale_inputs(spec, run_dir, chosen)
    for name, assessment in assess(spec, run_dir).items():
        if not chosen or name in chosen:
            words = what_would_happen(assessment, force)
            say(name, words, is_done=assessment.is_up_to_date and not force)


@app.command()
@over_pipeline
def run(selection: Selection, force: Force = False, ranks: Ranks = None) -> None:
    """Run every stage that is not up to date; after a stop, the same command goes on."""
    from pipeline.execution.runner import RunOptions, run_pipeline

    spec, chosen = selection.load()
    options = RunOptions(selection.runs, chosen, force, ranks, _this_command(selection.context))
    run_pipeline(spec, options)
    for found in spec.stages:
        page = selection.runs / spec.name / found.name / "index.html"
        if page.exists():
            say(found.name, f"open {page}")


@app.command()
@over_pipeline
def status(
    selection: Selection,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte: find files altered since.")
    ] = False,
) -> None:
    """Show how each stage stands, and when and how it was made."""
    from pipeline.cluster.status import print_status

    spec, chosen = selection.load()
    print_status(spec, selection.runs / spec.name, chosen, verify)


@app.command()
@over_pipeline
def submit(
    selection: Selection,
    flags: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- FLAGS OF SBATCH]", help="They win over the spec's resources."),
    ] = None,
    force: Force = False,
) -> None:
    """Send every stage that is not up to date to Slurm, as a chain of jobs."""
    from pipeline.cluster.submit import SubmitOptions, submit_pipeline

    spec, chosen = selection.load()
    overrides = tuple(selection.overrides or ())
    submit_pipeline(
        spec, SubmitOptions(selection.runs, chosen, force, overrides, tuple(flags or ()))
    )


@app.command()
@over_pipeline
def cancel(selection: Selection) -> None:
    """Cancel the Slurm jobs that still wait or run; the next start goes on where they stopped."""
    from pipeline.cluster.submit import cancel_jobs

    spec, chosen = selection.load()
    cancel_jobs(spec, selection.runs / spec.name, chosen)


@app.command(hidden=True)
@over_pipeline
def job_state(selection: Selection, force: Force = False, ranks: Ranks = None) -> None:
    """Say in one word to a job script whether its stages are done, else how far they are.

    It takes the options of `run`, for a script hands on what it was given.
    """
    from pipeline.cluster.job_state import job_state_of

    spec, chosen = selection.load()
    stages = chosen or [stage.name for stage in spec.stages]
    print(job_state_of(spec, selection.runs / spec.name, stages, force))


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"supnorm {version('supnorm')}")
        raise typer.Exit


def _silence(context: typer.Context, is_asked: bool) -> None:
    """Send standard output nowhere, that of the ranks too; a hidden verb answers a script."""
    if is_asked and not context.command.hidden:
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", callback=_silence, expose_value=False, help="Print only errors."
        ),
    ] = False,
) -> None:
    """Take the options that stand before the verb."""


class Tool(TyperCommand):
    """A verb in a file of `tools`: the file is imported when the verb is called, not before."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Import the file and go on with the command that is in it."""
        assert self.name
        module_name = self.name.replace("-", "_")
        module = importlib.import_module(f"{TOOLS_PACKAGE}.{module_name}")
        alone = typer.Typer(add_completion=False)
        alone.command()(getattr(module, module_name))
        command = typer.main.get_command(alone)
        if parent:
            command.params.append(_quiet_option(parent.command))
        return command.make_context(info_name, args, parent, **extra)


def all_verbs() -> TyperGroup:
    """The whole command line: the verbs of this file, and those of `tools`."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for command in group.commands.values():
        command.params.append(_quiet_option(group))
    for name, text in _tools():
        group.add_command(Tool(name, help=text, rich_help_panel="Tools"))
    return group


def main(package: str = STAGE_PACKAGE) -> NoReturn:
    """Run the command line.

    Args:
        package: the package that holds the kinds of stage.
    """
    is_script = Path(sys.argv[0]).name == "supnorm"
    _serve(all_verbs(), [], package, "supnorm" if is_script else "python -m pipeline")


def main_of_stage(kind: str, package: str = STAGE_PACKAGE) -> NoReturn:
    """Run the stages of one kind: `python -m stages.train CONFIG` and its like."""
    command = all_verbs().commands["run"]
    _serve(command, ["--kind", kind], package, f"python -m {package}.{kind}")


def _serve(command: Any, first: list[str], package: str, program: str) -> NoReturn:
    """Run a command; an error written for the user comes without a traceback.

    Args:
        command: a verb, or all of them.
        first: arguments that stand before those of the user.
        package: the package that holds the kinds of stage.
        program: what the user typed to get here.
    """
    # The deepspeed launcher puts this in front of everything; the environment says it too.
    sys.argv[1:] = [word for word in sys.argv[1:] if not word.startswith("--local_rank=")]
    try:
        command([*first, *sys.argv[1:]], obj=package, prog_name=program, help_option_names=HELP)
    except SupnormError as error:
        say_error(error)
        sys.exit(int(error.exit_code))
    sys.exit(0)


def _tools() -> Iterator[tuple[str, str]]:
    """The verbs in files of their own, each with its help, read without importing the file."""
    package = importlib.util.find_spec(TOOLS_PACKAGE)
    for folder in package.submodule_search_locations or () if package else ():
        for found in pkgutil.iter_modules([folder]):
            tree = ast.parse((Path(folder) / f"{found.name}.py").read_bytes())
            for node in tree.body:
                if isinstance(node, ast.FunctionDef) and node.name == found.name:
                    yield found.name.replace("_", "-"), ast.get_docstring(node) or ""


def _quiet_option(group: TyperGroup) -> Any:
    return next(option for option in group.params if option.name == "quiet")


def _this_command(context: typer.Context) -> str:
    """The command line as it was given; without --force, which would begin anew."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--force"]
    return f"{context.find_root().info_name} {shlex.join(arguments)}"
