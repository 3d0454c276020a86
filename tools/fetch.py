"""`supnorm fetch`: the files of a data set, on this machine and verified."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from stages.data.catalogue import CATALOGUE
from stages.data.fetch import fetch as fetch_files


def fetch(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help=f"{', '.join(CATALOGUE)}.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Where to put them; default data/DATASET."),
    ] = None,
) -> None:
    """Fetch the files of a data set, verified by checksum, or say how to get them by hand."""
    if dataset not in CATALOGUE:
        raise UserError(f"{dataset}: no such data set; choose one of {', '.join(CATALOGUE)}")
    folder = to or Path("data") / dataset
    is_new = fetch_files(CATALOGUE[dataset], folder)
    print(f"{dataset}: {'fetched into' if is_new else 'already in'} {folder}, verified")
