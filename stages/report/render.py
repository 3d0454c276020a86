"""The tree of values written three times: as a page, as Markdown, as JSON."""

import base64
import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel

from pipeline.monitor.formatting import bytes_text, duration_text
from pipeline.store.artifacts import StageRecord
from stages.report import formats
from stages.report.model import Network, Report, Share
from stages.report.svg import THEME_CSS, Plot

TEMPLATES_DIR = Path(__file__).with_name("templates")

Plots = Mapping[str, Sequence[Plot]]
"""Figures by the name of their network."""


def render_html(report: Report, plots: Plots) -> str:
    """One page that needs nothing but itself: no script, no font, no image from elsewhere."""
    css = THEME_CSS.read_text(encoding="utf-8") + (TEMPLATES_DIR / "page.css").read_text("utf-8")
    environment = _environment(autoescape=True)
    by_name = {
        network: {plot.name.rpartition("-")[2]: plot for plot in drawn}
        for network, drawn in plots.items()
    }
    template = environment.get_template("index.html.j2")
    return template.render(report=report, plots=by_name, css=Markup(css))  # noqa: S704  our own file


def render_markdown(report: Report, plots: Plots) -> str:
    """The report for places that show Markdown; its figures are SVG files beside it."""
    environment = _environment(autoescape=False, finalize=_markdown_text)
    return environment.get_template("report.md.j2").render(report=report, plots=plots)


def render_json(report: Report) -> str:
    """The report for programs: counts besides accuracies, eps as exact fractions, no pictures."""
    return json.dumps(_plain(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _environment(**options: Any) -> Environment:
    environment = Environment(  # noqa: S701  Markdown is escaped by `finalize`
        loader=FileSystemLoader(TEMPLATES_DIR),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters.update(
        accuracy=formats.accuracy_per_cent,
        base64=lambda content: base64.b64encode(content).decode("ascii"),
        bytes=bytes_text,
        count=formats.count_text,
        digests=_digests,
        duration=duration_text,
        eps=formats.eps_text,
        ball=formats.ball_text,
        eps_decimal=formats.eps_decimal,
        eps_meaning=formats.eps_meaning,
        figure=formats.figure_text,
        norm=formats.norm_text,
        words=_words,
        fenced=_fenced,
        flat=_flat,
        is_infinite=math.isinf,
        per_cent=formats.per_cent,
        radius=formats.radius_text,
        ratio=lambda share: f"{100 * share:.2f}",
        shape=formats.shape_text,
        spread=lambda spread: f"{100 * spread:.2f}",
        short=lambda figure: f"{figure:.4g}",
        utc=formats.utc_text,
        value=formats.value_text,
    )
    return environment


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (dotted name, value), the inputs left out: the spec shows them."""
    rows: list[tuple[str, Any]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows.extend(_flat(value, f"{prefix}{name}."))
        else:
            rows.append((prefix + name, value))
    return rows


def _words(networks: Sequence[Network]) -> list[tuple[str, str]]:
    """The words of all networks, each once."""
    return list({name: text for one in networks for name, text in one.words.items()}.items())


def _markdown_text(value: Any) -> str:
    """Text in which Markdown finds no markup of its own; template text itself is not touched."""
    if isinstance(value, Markup):
        return str(value)
    text = re.sub(r"\s+", " ", str(value))
    return re.sub(r"([\\`*_\[\]<>|&~$])", r"\\\1", text)


def _fenced(text: str) -> Markup:
    """A code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{text.rstrip()}\n{fence}")  # noqa: S704  fenced, nothing is markup


def _digests(stage: StageRecord) -> list[tuple[str, str]]:
    """What a stage was made from and what came of it: equal digests mean equal bytes."""
    return [
        *((f"sources of {name}", digest) for name, digest in stage.code.items()),
        *(
            (f"input {name}", f"{read.digest} ({read.stage})")
            for name, read in stage.inputs.items()
        ),
        ("result", stage.digest),
    ]


def _plain(value: Any) -> Any:
    """Values that JSON knows; pictures and the radii of all images stay in their own files."""
    match value:
        case Share():
            accuracy = value.count / value.total
            plain: Any = {"count": value.count, "total": value.total, "accuracy": accuracy}
        case BaseModel() | Mapping():
            plain = {str(name): _plain(item) for name, item in dict(value).items()}
        case list() | tuple():
            plain = [_plain(item) for item in value]
        case datetime():
            plain = value.isoformat()
        case Fraction():
            plain = str(value)
        case float() if not math.isfinite(value):
            plain = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        case _ if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            kept = [name for name in names if name not in ("png", "radii")]
            plain = {name: _plain(getattr(value, name)) for name in kept}
        case _:
            plain = value
    return plain
