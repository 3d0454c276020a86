"""The report stage: collect what the run left behind, draw it, write it three times."""

from pipeline.execution.context import Context
from stages.report.collect import collect
from stages.report.config import Settings
from stages.report.plots import draw_plots
from stages.report.render import render_html, render_json, render_markdown


def run(context: Context, settings: Settings) -> None:
    """Write `index.html`, `report.md` with its figures, `report.json` and the pipeline's spec.

    Raises:
        StageError: an artifact is damaged, or two of them contradict each other.
    """
    report = collect(context, settings)
    plots = {
        network.records: draw_plots(network, comparison.published)
        for comparison in report.comparisons
        for network in comparison.networks
    }
    files = {
        "index.html": render_html(report, plots),
        "report.md": render_markdown(report, plots),
        "report.json": render_json(report),
        report.reproduction.spec_name: report.reproduction.spec,
        **{plot.file_name: plot.as_file() for drawn in plots.values() for plot in drawn},
    }
    for name, content in files.items():
        (context.output_dir / name).write_text(content, encoding="utf-8")
