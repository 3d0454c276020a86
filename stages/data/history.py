"""The course of a training run: one line of JSON a validation, `history.jsonl`."""

from pathlib import Path

from pydantic import ConfigDict

from pipeline.errors import StageError
from pipeline.files import FrozenModel, parse_json, write_atomic
from stages.data.radius import Radius

HISTORY_NAME = "history.jsonl"


class HistoryLine(FrozenModel):
    """One validation and the training steps since the one before it."""

    # Standard JSON has no infinity: infinity is written as the text "Infinity".
    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings")

    step: int
    """Training steps done."""
    epoch: float
    """Epochs done, fractions included."""
    progress: float
    """Fraction of the training steps done, in [0, 1]."""

    eps_train: float
    """Radius in the loss at this step, in pixels."""
    learning_rate: float
    extra: dict[str, float]
    """What the network's family and the loss show of this step, by name."""

    train_loss: float
    """Mean over the images trained on since the last validation."""
    train_accuracy: float
    """Of those (augmented) images, as the network was at their step."""

    eps: Radius
    """Radius at which validation certifies, in pixels."""
    num_validation_images: int
    validation_clean_accuracy: float
    """Of the network as it would be handed on."""
    validation_certified_accuracy: float
    """Certified by margin in float32, rounding subtracted."""

    data_wait_share: float
    """Part of the training time that the first rank waited for images."""
    images_per_s: float
    """Training images a second since the last validation, all ranks, validation left out."""
    seconds: float
    """Since the process started training, validations included."""


def append_history(folder: Path, line: HistoryLine) -> None:
    """Add one line to `history.jsonl` in `folder`."""
    with (folder / HISTORY_NAME).open("a", encoding="utf-8") as file:
        file.write(line.model_dump_json() + "\n")


def read_history(folder: Path) -> tuple[HistoryLine, ...]:
    """Read `history.jsonl`.

    Raises:
        StageError: it is missing or a line is damaged.
    """
    path = folder / HISTORY_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        advice = "run the train stage first"
        raise StageError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    return tuple(_parse(path, number, line) for number, line in enumerate(lines, start=1))


def cut_history(folder: Path, last_step: int) -> None:
    """Drop what was written after `last_step`, a half-written line too: a resumed run redoes it."""
    path = folder / HISTORY_NAME
    if not path.exists():
        return
    kept = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = _parse(path, number, text)
        except StageError:
            break
        if line.step > last_step:
            break
        kept.append(text + "\n")
    write_atomic(path, "".join(kept))


def _parse(path: Path, number: int, text: str) -> HistoryLine:
    return parse_json(text, HistoryLine, f"{path}:{number}", "run the train stage again")
