from pipeline.execution.context import Context
from toys.gather.config import Settings


def run(context: Context, settings: Settings) -> None:
    lines = [
        f"{name} {(folder / 'pages' / 'text.txt').read_text()}\n"
        for name, folder in context.inputs.items()
    ]
    (context.output_dir / "all.txt").write_text("".join(lines))
