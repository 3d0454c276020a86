"""`resources:` of a spec: what each stage asks the cluster for, as flags of sbatch."""

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from pipeline.spec.settings import Settings, text_like

OURS = frozenset(
    ("array", "dependency", "job-name", "kill-on-invalid-dep", "output", "parsable", "wrap")
)
"""Flags that `submit` itself sets; others may stand in `extra`."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r} holds a character that cannot be printed")
    return text


Word = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class Resources(Settings):
    """What one stage asks for; what it leaves out is as for all stages, or the site's default."""

    nodes: int | None = Field(default=None, ge=1)
    """Machines; more than one only for stages that many ranks can share."""
    gpus_per_node: int | None = Field(default=None, ge=0)
    """One rank for each; 0 or left out: one rank a node, on the CPU."""
    cpus: int | None = Field(default=None, ge=1)
    """Cores a rank: for data loading beside a GPU, for everything without one."""
    memory: (
        Annotated[str, text_like(r"[1-9]\d*[KMGT]", "write a whole number and K, M, G or T: 64G")]
        | None
    ) = None
    """Of a node: `64G`."""
    time: (
        Annotated[
            str,
            text_like(r"(\d+-)?\d+(:\d\d){0,2}", 'write minutes "30", 4:00:00 or 2-12:00:00'),
        ]
        | None
    ) = None
    """The limit: `"30"` minutes, in quotes, or `4:00:00` or `2-12:00:00`. Training that needs more
    goes on in a second job."""
    partition: Word | None = None
    account: Word | None = None
    constraint: Word | None = None
    """Features that the nodes must have: `"h200&nvlink"`."""
    extra: tuple[Word, ...] = ()
    """Further flags of sbatch, each as one word: `--qos=long`."""

    @field_validator("extra")
    @classmethod
    def _extra_are_flags(cls, flags: tuple[str, ...]) -> tuple[str, ...]:
        for flag in flags:
            name = re.match(r"--([a-z][a-z-]*)(=|$)", flag)
            if not name:
                raise ValueError(f"{flag!r} is no long flag of sbatch; write it as --qos=long")
            if name[1] in OURS:
                raise ValueError(f"--{name[1]} is set by `submit` itself; leave it out")
        return flags

    @property
    def ranks_per_node(self) -> int:
        """Processes on each machine."""
        return self.gpus_per_node or 1

    def limited_to(self, max_ranks: int | None) -> "Resources":
        """The same for a stage that so many ranks can share; a lone rank needs one machine."""
        if max_ranks is None or (self.nodes or 1) * self.ranks_per_node <= max_ranks:
            return self
        gpus = min(self.ranks_per_node, max_ranks) if self.gpus_per_node and max_ranks > 1 else None
        return self.model_copy(update={"nodes": 1, "gpus_per_node": gpus})

    def flags(self) -> Iterator[str]:
        """As flags of sbatch; a value is one word with its flag, whatever is in it."""
        yield f"--nodes={self.nodes or 1}"
        yield f"--ntasks-per-node={self.ranks_per_node}"
        named = {
            "gpus-per-node": self.gpus_per_node or None,
            "cpus-per-task": self.cpus,
            "mem": self.memory,
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
            "constraint": self.constraint,
        }
        for name, value in named.items():
            if value is not None:
                yield f"--{name}={value}"
        yield from self.extra


class PipelineResources(Resources):
    """What all stages ask for, and what single ones ask for instead."""

    stages: dict[str, Resources] = Field(default_factory=dict)
    """By stage; what it leaves out is as for all stages."""

    def of(self, stage: str) -> Resources:
        """What one stage asks for."""
        own = self.stages.get(stage, Resources())
        common = self.model_dump(exclude={"stages"}, exclude_unset=True)
        return Resources(**{**common, **own.model_dump(exclude_unset=True)})
