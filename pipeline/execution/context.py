"""What a running stage is told: its inputs, its working folder, its ranks, requests to stop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.execution.signals import RankStop
from pipeline.monitor.metrics import Metrics
from pipeline.monitor.progress import Progress, track
from pipeline.monitor.progress_file import ProgressLine
from pipeline.ranks import Ranks
from pipeline.spec.sweep import Sweep


@dataclass(frozen=True)
class Context:
    """Handed to `stages.<kind>.run.run(context, settings)` on every rank.

    `output_dir` is the stage's working folder. It becomes `runs/<pipeline>/<stage>` by one rename
    once every rank has returned. After a failure it is kept and handed to the next attempt, if
    nothing that the result depends on has changed: a stage that can resume finds its own files in
    it. Files that are not finished have names that begin with a dot; those in `checkpoints` serve
    only to resume, and are no part of the result.
    """

    pipeline: str
    stage: str
    output_dir: Path
    inputs: Mapping[str, Path]
    """Input name -> committed artifact folder."""
    ranks: Ranks = field(default_factory=Ranks)
    metrics: Metrics = field(default_factory=Metrics)
    """What Prometheus sees of this rank."""
    listener: Callable[[ProgressLine], None] | None = None
    """It is told every few seconds how far a tracked step is."""
    stop: RankStop = field(default_factory=RankStop)
    """A stage that can stop half-way watches it, and then raises `StoppedOnRequest`."""
    sweep: Sweep | None = None
    """For a stage that aggregates a sweep: the members, whose names follow those of inputs."""

    def track(self, title: str, total: int, unit: str) -> Progress:
        """A progress display of this stage; silent on every rank but the first."""
        return track(f"{self.stage}: {title}", total, unit, self.ranks.is_first, self.listener)

    def say(self, message: str) -> None:
        """Print one line for the user, from the first rank only."""
        if self.ranks.is_first:
            print(f"{self.stage}: {message}", flush=True)
