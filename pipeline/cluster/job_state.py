"""What a job script asks at its start and end, to tell a stage to resume from a broken one."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.spec.load import Spec
from pipeline.store.artifacts import output_names, partial_dir
from pipeline.store.digests import digest_of
from pipeline.store.staleness import assess

DONE = "done"
LATEST = Path("checkpoints") / "latest"
"""Names the newest whole checkpoint of a stage that writes such."""


def standing_of(spec: Spec, run_dir: Path, stages: Sequence[str]) -> str:
    """`done`, else a word that changes whenever one of the stages has got further.

    Exit codes get lost between the ranks and a job script; files do not.
    """
    assessments = assess(spec, run_dir)
    if all(assessments[name].is_up_to_date for name in stages):
        return DONE
    return digest_of([_progress(run_dir / name) for name in stages])


def _progress(artifact_dir: Path) -> list[str]:
    """What a try has achieved: its newest checkpoint, else the names of its finished files."""
    working_dir = partial_dir(artifact_dir)
    try:
        return [(working_dir / LATEST).read_text(encoding="utf-8")]
    except OSError:
        return output_names(working_dir) if working_dir.is_dir() else []
