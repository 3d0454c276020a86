"""The tools work on what stages have made: the small worlds of the stages' own tests."""

from tests.stages.certify.conftest import any_world, hybrid_world, tools, world
from tests.stages.prune.conftest import data_dir, network, network_dir, one_thread, prune_stage

__all__ = [
    "any_world",
    "data_dir",
    "hybrid_world",
    "network",
    "network_dir",
    "one_thread",
    "prune_stage",
    "tools",
    "world",
]
