"""The figures of a report: certified accuracy against eps, radii, the course of the training."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.data.history import HistoryLine
from stages.report.formats import (
    accuracy_per_cent,
    eps_axis,
    eps_text,
    figure_text,
    per_cent,
)
from stages.report.model import Network, Share
from stages.report.pruning_plots import draw_pruning
from stages.report.published import PublishedResult
from stages.report.svg import (
    ATTACKED,
    CERTIFIED,
    CLEAN,
    INK,
    MUTED,
    SHADE,
    STYLE,
    TRAINING,
    WIDTH_INCHES,
    Plot,
    blank_figure,
    finish,
)


def draw_plots(network: Network, published: Sequence[PublishedResult]) -> tuple[Plot, ...]:
    """All figures of one network; what it has no history of, or no pruning, has no figure."""
    with matplotlib.rc_context(STYLE):
        plots = [certified_curve(network, published), radius_histogram(network)]
        if network.history:
            plots.append(training_curves(network))
        if network.pruning:
            plots += draw_pruning(network.records, network.pruning)
    return tuple(plots)


def certified_curve(network: Network, published: Sequence[PublishedResult]) -> Plot:
    """Certified accuracy against eps; clean, attacked and the best published figure beside it."""
    result = network.result
    figure, axes = blank_figure(height=270)
    axes.plot(
        [float(point.eps) for point in result.curve],
        [_height(point.certified) for point in result.curve],
        color=CERTIFIED,
    )
    axes.plot(
        [float(point.eps) for point in result.grid],
        [_height(point.certified) for point in result.grid],
        "o",
        color=CERTIFIED,
        markersize=3.2,
    )
    eps = float(result.eps)
    axes.axvline(eps, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
    marks = [
        ("clean", 0.0, result.clean, CLEAN, "s"),
        ("attacked", eps, result.attacked, ATTACKED, "D"),
        ("certified", eps, result.certified, CERTIFIED, "o"),
    ]
    for name, x, share, colour, marker in marks:
        label = f"{name} {per_cent(share)}\u2009%"
        axes.plot(
            [x],
            [_height(share)],
            marker,
            color=colour,
            markersize=7,
            label=label,
            clip_on=False,
            zorder=5,
        )
    if published:
        best = float(published[0].certified)
        label = f"best published, certified {published[0].certified}\u2009%"
        axes.plot([eps], [best], "o", color=INK, markersize=7, fillstyle="none", label=label)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    axes.margins(x=0.02)
    axes.set_xlabel(f"eps, {eps_axis(result.norm)}")
    axes.set_title("accuracy, %", loc="left", color=MUTED, fontsize=11)
    axes.legend(loc="best", fontsize=10, handletextpad=0.3)
    description = (
        f"Certified accuracy falls from {per_cent(result.clean)} % at eps 0 to "
        f"{per_cent(result.certified)} % at eps {eps_text(result.eps)}, where the attack "
        f"leaves {per_cent(result.attacked)} %."
    )
    return finish(figure, _name(network, "curve"), "Certified accuracy against eps", description)


def radius_histogram(network: Network) -> Plot:
    """How far each correctly classified image is proved, with eps marked."""
    result = network.result
    radii = np.asarray(result.radii)
    eps = float(result.eps)
    is_certified = np.arange(len(radii)) >= len(radii) - result.certified.count
    edges = _edges(float(radii.max(initial=eps)), eps)
    figure, axes = blank_figure(height=270)
    axes.hist(
        [radii[~is_certified], radii[is_certified]],
        bins=edges,
        stacked=True,
        color=[CLEAN, CERTIFIED],
        label=[
            f"right, not proved at eps: {int((~is_certified).sum()):,}",
            f"proved at eps: {int(is_certified.sum()):,}",
        ],
        rwidth=0.88,
    )
    axes.axvline(eps, color=INK, linewidth=0.9, linestyle=(0, (3, 3)))
    axes.annotate(
        f"eps {eps_text(result.eps)}",
        (eps, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
        color=INK,
        fontsize=10,
    )
    axes.grid(visible=False, axis="x")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(top=max(axes.get_ylim()[1] * 1.3, 1))
    axes.set_xlabel(f"certified radius, {eps_axis(result.norm)}")
    axes.set_title("images", loc="left", color=MUTED, fontsize=11)
    axes.legend(loc="upper right", fontsize=10)
    description = (
        f"Of {len(radii):,} images classified right, {result.certified.count:,} are proved "
        f"beyond eps {eps_text(result.eps)}."
    )
    return finish(figure, _name(network, "radii"), "Certified radii", description)


def training_curves(network: Network) -> Plot:
    """Accuracy, loss and the columns of the family on one time axis.

    The part where a column is infinite is shaded.
    """
    history = network.history
    columns = [name for name in network.words if name in history[-1].extra]
    height = (230 + 100 * (1 + len(columns))) / 72
    figure = Figure(figsize=(WIDTH_INCHES, height))
    accuracy, loss, *others = figure.subplots(
        2 + len(columns), 1, sharex=True, height_ratios=(1.7, 1, *[1] * len(columns))
    )
    figure.subplots_adjust(left=0.105, right=0.98, top=0.945, bottom=0.1, hspace=0.28)
    epochs = [line.epoch for line in history]
    marker = "o" if len(history) < 40 else ""

    def draw(axes: Axes, values: Sequence[float], colour: str, label: str | None = None) -> None:
        axes.plot(epochs, values, marker=marker, markersize=3, color=colour, label=label)

    draw(accuracy, [100 * line.train_accuracy for line in history], TRAINING, "training")
    draw(
        accuracy,
        [100 * line.validation_clean_accuracy for line in history],
        CLEAN,
        "clean",
    )
    draw(
        accuracy,
        [100 * line.validation_certified_accuracy for line in history],
        CERTIFIED,
        "certified",
    )
    draw(loss, [line.train_loss for line in history], TRAINING)
    for axes, name in zip(others, columns, strict=True):
        _draw_column(axes, history, name, marker)
    titles = ("accuracy, %", "training loss", *columns)
    for axes, title in zip((accuracy, loss, *others), titles, strict=True):
        for name in columns:
            _shade_infinity(axes, history, name)
        axes.set_title(title, loc="left", color=MUTED, fontsize=11, pad=4)
    accuracy.legend(
        loc="lower right",
        bbox_to_anchor=(1, 0.965),
        ncols=3,
        fontsize=10,
        columnspacing=1.2,
        borderaxespad=0,
        handlelength=1.4,
    )
    lowest = (loss, *others)[-1]
    lowest.xaxis.set_major_locator(MaxNLocator(integer=True))
    lowest.set_xlabel("epoch")
    last = history[-1]
    description = (
        f"{', '.join(('Accuracy', 'loss', *columns))} over {last.epoch:.4g} epochs; at the end "
        f"{accuracy_per_cent(last.validation_clean_accuracy)} % of the validation images are right "
        f"and {accuracy_per_cent(last.validation_certified_accuracy)} % certified."
    )
    return finish(figure, _name(network, "training"), "Course of the training", description)


def _draw_column(axes: Axes, history: Sequence[HistoryLine], name: str, marker: str) -> None:
    """A column on a logarithmic axis; infinity is a level above the largest finite value."""
    values = [line.extra[name] for line in history]
    finite = [value for value in values if math.isfinite(value)]
    infinite_height = math.log10(max(finite, default=10)) + 0.6
    heights = [math.log10(value) if math.isfinite(value) else infinite_height for value in values]
    axes.plot(
        [line.epoch for line in history], heights, marker=marker, markersize=3, color=TRAINING
    )
    shown = [
        *finite[:1],
        *(v for v in (10, 100, 1000) if finite and 2 * finite[0] < v <= 1.1 * finite[-1]),
    ]
    ticks = {math.log10(value): figure_text(value) for value in shown}
    if len(finite) < len(history):
        ticks[infinite_height] = figure_text(math.inf)
    axes.set_yticks(list(ticks), list(ticks.values()))


def _shade_infinity(axes: Axes, history: Sequence[HistoryLine], name: str) -> None:
    at_infinity = [line.epoch for line in history if math.isinf(line.extra[name])]
    if at_infinity:
        axes.axvspan(at_infinity[0], at_infinity[-1], color=SHADE, linewidth=0, zorder=0)


def _edges(largest: float, eps: float) -> list[float]:
    """Even bins, about thirty, with eps on an edge so that no bar has two colours."""
    if eps <= 0:
        return [(largest or 1.0) * step / 30 for step in range(31)]
    width = eps / max(1, round(30 * eps / largest))
    return [width * step for step in range(math.ceil(largest / width) + 1)]


def _height(share: Share) -> float:
    return 100 * share.count / share.total


def _name(network: Network, figure: str) -> str:
    return f"{network.records}-{figure}"
