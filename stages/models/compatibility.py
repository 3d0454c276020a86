"""Whether a network fits the shards and the balls of a stage."""

from pipeline.errors import UserError
from stages.data.manifest import Manifest
from stages.data.radius import Norm
from stages.models.network_file import LoadedNetwork


def check_compatibility(manifest: Manifest, loaded: LoadedNetwork, split: str, norm: Norm) -> None:
    """Refuse a network that expects other images than these shards hold, or other balls.

    Raises:
        UserError: says everything that differs; or the split is empty, or the norm another one.
    """
    expected = {
        "image shape (H, W, C)": (loaded.image_shape, manifest.image_shape),
        "classes": (loaded.classes, manifest.classes),
        "channel means": (loaded.normalisation.mean, manifest.mean),
        "std": (loaded.normalisation.std, manifest.std),
    }
    differing = [
        f"{what}: the network expects {network}, the shards have {shards}"
        for what, (network, shards) in expected.items()
        if network != shards
    ]
    if differing:
        raise UserError(
            f"this network was trained on {loaded.dataset} and does not fit these shards of "
            f"{manifest.dataset}: {'; '.join(differing)}. Name the shard stage that "
            "it was trained on"
        )
    if split not in manifest.splits or manifest.splits[split].num_images == 0:
        filled = [name for name, part in manifest.splits.items() if part.num_images]
        raise UserError(
            f"the shards of {manifest.dataset} have no images in split {split!r}; "
            f"choose among {', '.join(filled)}"
        )
    try:
        loaded.settings.check_norm(norm)
    except ValueError as error:
        raise UserError(str(error)) from None
