"""Networks that cannot be pruned."""

import math
from pathlib import Path

from pipeline.errors import UserError
from stages.data.history import read_history
from stages.models.linf.network import DistanceMLP, SparseMLP
from stages.models.network_file import LoadedNetwork


def prunable(loaded: LoadedNetwork, network_dir: Path) -> DistanceMLP:
    """The network, if pruning by use means something for it.

    Args:
        loaded: from `network_dir`.
        network_dir: the train stage's artifact.

    Raises:
        UserError: it is no distance_mlp, or its training never reached p = infinity.
        StageError: its training history is missing or damaged.
    """
    network = loaded.network
    if not isinstance(network, DistanceMLP) or isinstance(network, SparseMLP):
        raise UserError(
            f"a network of kind {loaded.settings.kind} cannot be pruned, only a distance_mlp whose "
            "edges are all there: name the train stage of one"
        )
    last_p = max((line.p for line in read_history(network_dir)), default=0.0)
    if last_p != math.inf:
        raise UserError(
            f"this network was trained at p up to {last_p:g}, never at infinity: there every edge "
            "has a share in its output, and the one that decides at infinity says little. Train it "
            "with p_infinite_epoch before the last epoch"
        )
    return network
