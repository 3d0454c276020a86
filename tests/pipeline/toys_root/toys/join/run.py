from pipeline.execution.context import Context
from toys.join.config import Settings


def run(context: Context, settings: Settings) -> None:
    text = (context.inputs["data"] / "pages" / "text.txt").read_text()
    with context.track("letters", len(text), "letters") as progress:
        for _ in text:
            progress.advance()
    (context.output_dir / "index.html").write_text(settings.separator.join(text))
