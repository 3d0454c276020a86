"""What a run says on the terminal: one line an event, in colour where somebody is looking."""

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from pipeline.errors import SupnormError

NAME_WIDTH = 10
"""Room for a stage's name before the text of its line."""


def say(stage: str, text: str, is_done: bool = False) -> None:
    """Print one line about a stage; green when it is done."""
    name = _styled(stage.ljust(NAME_WIDTH), _BOLD, sys.stdout)
    print(name, _styled(text, _GREEN, sys.stdout) if is_done else text, flush=True)


def say_error(error: SupnormError, who: str = "") -> None:
    """Print an error on standard error, its first line marked; `who` is a rank."""
    first, _, rest = str(error).partition("\n")
    mark = _styled(f"{error.mark}:", _RED, sys.stderr)
    prefix = f"{who}: " if who else ""
    print(mark, _styled(f"{prefix}{first}", _BOLD, sys.stderr), file=sys.stderr)
    if rest:
        print(rest, file=sys.stderr, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: ruled on a terminal, plain columns elsewhere."""
    if sys.stdout.isatty():
        _print_rich_table(title, columns, rows)
        return
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    print(title)
    for row in (columns, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _print_rich_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415  rich costs 60 ms that other commands need not pay
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        is_figure = column in ("took", "size")
        table.add_column(column, justify="right" if is_figure else "left", no_wrap=is_figure)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell.split(":")[0], "")) for cell in row))
    Console().print(table)


_STYLES = {
    "up to date": "green",
    "stale": "yellow",
    "incomplete": "yellow",
    "never run": "dim",
    "running": "bold cyan",
    "queued": "magenta",
}


_BOLD, _RED, _GREEN = "1", "1;31", "32"


def _styled(text: str, style: str, stream: TextIO) -> str:
    """Colour a text, unless nobody is looking or the user has asked for no colour."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if is_plain or not stream.isatty() else f"\x1b[{style}m{text}\x1b[0m"
