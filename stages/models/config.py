"""Which network, how it is trained and how certified: what all families offer, free of torch.

A family is a folder beside this file; its `config.py` lists its settings classes in `NETWORKS`
(what can be trained), `DERIVED_NETWORKS` (what a network file can hold besides), `TRAINING_RULES`
and `CERTIFIERS`.
"""

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from stages.models.kinds import CertifierKind, NetworkKind, TrainingRuleKind


def _of_every_family(*lists: str) -> Any:
    """The union of the settings classes in some lists of every family, told apart by `kind`."""
    folders = [found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)])]
    packages = [name for name in folders if (Path(__file__).parent / name).is_dir()]
    families = [import_module(f"stages.models.{name}.config") for name in sorted(packages)]
    kinds = tuple(kind for family in families for one in lists for kind in getattr(family, one))
    return Annotated[Union[kinds], Field(discriminator="kind")] if len(kinds) > 1 else kinds[0]  # noqa: UP007


if TYPE_CHECKING:
    NetworkSettings = NetworkKind
    AnyNetworkSettings = NetworkKind
    TrainingRuleSettings = TrainingRuleKind
    CertifierSettings = CertifierKind
else:
    NetworkSettings = _of_every_family("NETWORKS")
    AnyNetworkSettings = _of_every_family("NETWORKS", "DERIVED_NETWORKS")
    TrainingRuleSettings = _of_every_family("TRAINING_RULES")
    CertifierSettings = _of_every_family("CERTIFIERS")
