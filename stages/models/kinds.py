"""What the settings of every family's networks, certifiers and training rules say; no torch."""

from collections.abc import Mapping
from typing import ClassVar

from pipeline.spec.settings import Settings
from stages.data.radius import Norm


class NetworkKind(Settings):
    """Settings of a network; a subclass has a `kind` of its own."""

    kind: str

    family: ClassVar[str]
    """Name of the family's folder."""

    norm: ClassVar[Norm]
    """Of the balls in which its networks are certified."""

    words: ClassVar[Mapping[str, str]] = {}
    """What a reader of a report must know, by the name of a history's column."""

    untrained: ClassVar[tuple[str, ...]] = ()
    """Last parts of the names of tensors that no step trains."""

    @property
    def is_lipschitz(self) -> bool:
        """Whether every logit moves by at most eps when the image does."""
        return False

    def check_norm(self, norm: Norm) -> None:
        """Refuse balls in which the network is not certified.

        Raises:
            ValueError: `norm` is another one.
        """
        if norm != self.norm:
            raise ValueError(
                f"norm {norm} is given, but a {self.kind} is certified in {self.norm} balls; "
                f"write norm: {self.norm}, or name another network"
            )


class CertifierKind(Settings):
    """Settings of a certifier; a subclass has a `kind` of its own."""

    kind: str

    family: ClassVar[str]
    """Name of the family's folder."""

    @property
    def description(self) -> str:
        """The method in few words, for summaries and reports."""
        return self.kind


class TrainingRuleKind(Settings):
    """Settings of a training rule; a subclass has a `kind` of its own."""

    kind: str

    family: ClassVar[str]
    """Name of the family's folder."""

    def check_length(self, epochs: int) -> None:
        """Refuse a training that is too short for the rule.

        Raises:
            ValueError: says why.
        """
