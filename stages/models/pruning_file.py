"""`pruning.json`: what pruning did, written by the prune stage and read by the report."""

from pathlib import Path

from pydantic import ValidationError

from pipeline.errors import StageError
from pipeline.spec.settings import Settings
from stages.data.radius import ExactFraction

PRUNING_NAME = "pruning.json"


class Accuracy(Settings):
    """Exact counts on the validation split."""

    num_correct: int
    num_certified: int
    """By margin in float32, rounding subtracted."""


class PrunedLayer(Settings):
    """One distance layer before and after."""

    num_edges_before: int
    num_edges: int
    num_outputs_before: int
    num_outputs: int
    num_constant: int
    """Neurons whose output became a constant, which is folded into the next layer."""
    num_unused: int
    """Neurons removed because nothing depended on them."""
    use_histogram: tuple[int, ...]
    """Edges of the full layer that decide for no image, for 1, for 2 to 3, 4 to 7, 8 to 15, ..."""


class CurvePoint(Settings):
    """A sparsity that was tried."""

    sparsity: float
    """Share of the edges that the pruned network lacks, folded and unused ones included."""
    accuracy: Accuracy


class Pruning(Settings):
    """Contents of pruning.json."""

    rule: str
    """How the edges were chosen."""
    sparsity: float
    """Share of the edges that are gone."""
    eps: ExactFraction
    """Radius of the certified counts, in pixels."""
    num_training_images: int
    """Images that uses were counted on."""
    num_validation_images: int
    before: Accuracy
    """Of the full network."""
    after: Accuracy
    """Of the network as it was written."""
    is_fine_tuned: bool
    layers: tuple[PrunedLayer, ...]
    curve: tuple[CurvePoint, ...]
    """By rising sparsity, without fine-tuning."""

    @property
    def num_edges_before(self) -> int:
        """Edges of the full network."""
        return sum(layer.num_edges_before for layer in self.layers)

    @property
    def num_edges(self) -> int:
        """Edges of the pruned network."""
        return sum(layer.num_edges for layer in self.layers)


def write_pruning(folder: Path, pruning: Pruning) -> None:
    """Write pruning.json into `folder`."""
    (folder / PRUNING_NAME).write_text(pruning.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_pruning(folder: Path) -> Pruning:
    """Read pruning.json of a prune artifact.

    Raises:
        StageError: the file is missing or damaged.
    """
    path = folder / PRUNING_NAME
    try:
        return Pruning.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StageError(f"{path} cannot be read ({error.strerror}); run the prune stage") from None
    except ValidationError as error:
        raise StageError(f"{path} is damaged: {error}; run the prune stage again") from None
