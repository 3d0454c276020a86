"""What a job script asks at its start and end, to tell a stage to resume from a broken one."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.spec.load import Spec
from pipeline.store.artifacts import RESUME_FOLDER, output_names, partial_dir
from pipeline.store.digests import digest_of
from pipeline.store.staleness import assess

DONE = "done"


def job_state_of(spec: Spec, run_dir: Path, stages: Sequence[str], is_forced: bool = False) -> str:
    """`done`, else a word that changes whenever one of the stages has got further.

    Exit codes get lost between the ranks and a job script; files do not. A job that is forced is
    done once no attempt is left, for the artifact from before it may be up to date all the time.
    """
    assessments = assess(spec, run_dir)
    found = [assessments[name] for name in stages]
    if all(one.is_up_to_date and not (is_forced and one.has_earlier_attempt) for one in found):
        return DONE
    return digest_of([_finished_files(partial_dir(run_dir / name)) for name in stages])


def _finished_files(working_dir: Path) -> list[str]:
    """The names of what an attempt has finished; what is still being written is hidden."""
    if not working_dir.is_dir():
        return []
    to_resume = (working_dir / RESUME_FOLDER).rglob("*")
    names = [path.relative_to(working_dir).as_posix() for path in to_resume]
    return sorted(name for name in output_names(working_dir) + names if "/." not in f"/{name}")
