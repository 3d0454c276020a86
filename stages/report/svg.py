"""Matplotlib figures as SVG whose colours belong to the page: right in light and in dark.

A figure is drawn in stand-in colours, one a role. The finished text names a CSS variable instead:
inside the page the page defines it, a file of its own carries the definitions along.
"""

import io
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, RULE, SHADE, CLEAN, ATTACKED, CERTIFIED, TRAINING = (
    f"#0000{number:02x}" for number in range(1, 9)
)
"""Stand-in colours; black itself would be left out of the SVG."""

_ROLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    SHADE: "shade",
    CLEAN: "clean",
    ATTACKED: "attacked",
    CERTIFIED: "certified",
    TRAINING: "training",
}

WIDTH_INCHES = 400 / 72
"""400 units wide: letters of 11 units stay readable on a phone and on a desktop."""

THEME_CSS = Path(__file__).with_name("templates") / "theme.css"
"""Defines the CSS variables, for the page and for SVG files of their own."""

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "supnorm",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "figure.facecolor": "none",
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True)
class Plot:
    """A finished figure."""

    name: str
    """File name without its ending, and the prefix of every id inside."""
    title: str
    description: str
    """What the figure shows, in words, for those who cannot see it."""
    inline: str
    """An <svg> element; colours come from the page around it."""

    @property
    def file_name(self) -> str:
        """Where `as_file` is kept."""
        return f"{self.name}.svg"

    def as_file(self) -> str:
        """The same as a file of its own, with its colours and a background."""
        theme = THEME_CSS.read_text(encoding="utf-8")
        style = f"<style>{theme}text {{ font-family: var(--font); }}</style>"
        background = '<rect width="100%" height="100%" rx="6" fill="var(--paper)"/>'
        opening, rest = self.inline.split(">", 1)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{opening}>{style}{background}{rest}\n'


def finish(figure: Figure, name: str, title: str, description: str) -> Plot:
    """Turn a drawn figure into SVG; equal figures give equal bytes.

    Args:
        figure: drawn within `matplotlib.rc_context(STYLE)`, in the colours above.
        name: unique within the page.
        title: short heading, read out first.
        description: the figure in words.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    return Plot(name, title, description, _themed(buffer.getvalue(), name, title, description))


def _themed(svg: str, name: str, title: str, description: str) -> str:
    """Name roles instead of colours, leave the font to the page, keep ids apart between figures."""
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    body = svg[svg.index("</defs>") + len("</defs>") : svg.rindex("</svg>")]
    for colour, role in _ROLES.items():
        body = body.replace(colour, f"var(--{role})")
    body = re.sub(r" font-family: [^;]*;", "", body)
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
    body = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {view_box[0]} class="plot" role="img" '
        f'aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>{body}</svg>'
    )


def blank_figure(height: float) -> tuple[Figure, Axes]:
    """One pair of axes, `height` units high."""
    figure = Figure(figsize=(WIDTH_INCHES, height / 72))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.105, right=0.98, top=0.91, bottom=0.17)
    return figure, axes
