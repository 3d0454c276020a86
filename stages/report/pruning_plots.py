"""The figures about pruning: what sparsity costs, and how often edges decide."""

from collections.abc import Sequence

from matplotlib.ticker import FuncFormatter

from stages.models.pruning_file import PrunedLayer, Pruning
from stages.report.svg import (
    ATTACKED,
    CERTIFIED,
    CLEAN,
    INK,
    MUTED,
    TRAINING,
    Plot,
    blank_figure,
    finish,
)

_ONE_TWO_FIVE = tuple(base * 10.0**power for power in range(-4, 3) for base in (1, 2, 5))


def draw_pruning(name: str, pruning: Pruning) -> tuple[Plot, ...]:
    """Both figures; `name` begins the names of their files."""
    return (sparsity_curve(name, pruning), use_histogram(name, pruning))


def sparsity_curve(name: str, pruning: Pruning) -> Plot:
    """Validation accuracies against the share of edges kept, which falls to the right."""
    figure, axes = blank_figure(height=270)
    total = pruning.num_validation_images
    kept = [100 * (1 - point.sparsity) for point in pruning.curve]
    series = (
        (
            "clean",
            CLEAN,
            [p.accuracy.num_correct for p in pruning.curve],
            pruning.before.num_correct,
        ),
        (
            "certified",
            CERTIFIED,
            [p.accuracy.num_certified for p in pruning.curve],
            pruning.before.num_certified,
        ),
    )
    for label, colour, counts, before in series:
        axes.plot(kept, [100 * n / total for n in counts], "o-", color=colour, label=label)
        axes.axhline(100 * before / total, color=colour, linewidth=0.9, linestyle=(0, (3, 3)))
    chosen = 100 * (1 - pruning.sparsity)
    axes.axvline(chosen, color=INK, linewidth=0.9, linestyle=(0, (3, 3)))
    axes.annotate(
        f"kept: {chosen:.2f}\u2009%",
        (chosen, 0),
        xycoords=("data", "axes fraction"),
        xytext=(5, 8),
        textcoords="offset points",
        color=INK,
        fontsize=10,
    )
    axes.set_xscale("log")
    axes.invert_xaxis()
    ticks = [t for t in _ONE_TWO_FIVE if min(kept) <= t <= max(kept)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 100)
    axes.set_xlabel("edges kept, %")
    axes.set_title("validation accuracy, %", loc="left", color=MUTED, fontsize=11)
    axes.legend(loc="center right", fontsize=10)
    description = (
        f"With {chosen:.2f} % of the edges {pruning.after.num_correct:,} of {total:,} validation "
        f"images are right and {pruning.after.num_certified:,} certified; with all of them "
        f"{pruning.before.num_correct:,} and {pruning.before.num_certified:,}."
    )
    return finish(figure, f"{name}-sparsity", "What sparsity costs", description)


def use_histogram(name: str, pruning: Pruning) -> Plot:
    """Edges by the number of training images they decide for, a line a layer."""
    figure, axes = blank_figure(height=270)
    colours = (CLEAN, CERTIFIED, ATTACKED, TRAINING)
    most = max(len(layer.use_histogram) for layer in pruning.layers)
    for number, layer in enumerate(pruning.layers):
        counts = [*layer.use_histogram, *[0] * (most - len(layer.use_histogram))]
        style = ("-", "--", ":")[number // len(colours) % 3]
        colour = colours[number % len(colours)]
        label = f"layer {number + 1}"
        axes.stairs(counts, [n - 0.5 for n in range(most + 1)], color=colour, ls=style, label=label)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.8)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda edges, _: _short(round(edges))))
    axes.set_yticks([], minor=True)
    step = max(1, most // 8)
    ticks = list(range(0, most, step))
    axes.set_xticks(ticks, [_uses_text(number) for number in ticks])
    axes.set_xlabel("training images that an edge decides for, from")
    axes.set_title("edges", loc="left", color=MUTED, fontsize=11)
    axes.legend(loc="upper right", fontsize=10, ncols=2)
    return finish(figure, f"{name}-uses", "How often edges decide", _unused_text(pruning.layers))


def _uses_text(bin_number: int) -> str:
    """The smallest count of a bin: 0, 1, 2, 4, 8, ..."""
    return _short(0 if bin_number == 0 else 1 << (bin_number - 1))


def _short(count: int) -> str:
    """1,000 and 1,024 as 1k, a million as 1M."""
    for size, unit in ((10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count // size}{unit}"
    return str(count)


def _unused_text(layers: Sequence[PrunedLayer]) -> str:
    unused = sum(layer.use_histogram[0] for layer in layers)
    edges = sum(layer.num_edges_before for layer in layers)
    return f"{unused:,} of {edges:,} edges ({unused / edges:.1%}) decide for no training image."
