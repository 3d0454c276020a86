from pipeline.execution.context import Context
from toys.make.config import Settings


def run(context: Context, settings: Settings) -> None:
    text = settings.text * settings.count
    (context.output_dir / "pages").mkdir(exist_ok=True)
    (context.output_dir / "pages" / "text.txt").write_text(text.upper() if settings.loud else text)
