"""A Sphinx extension that runs the Python blocks of `talk.md`.

What they print and draw is put below them. It also writes the attention page of the
talk's models, `attention.html`.
"""

import ast
import contextlib
import io
import re
import warnings
from pathlib import Path

from matplotlib.figure import Figure
from minitransformer import Translator, attention_page
from minitransformer.plots import save_figure
from sphinx.application import Sphinx

PAGE = "talk"
BLOCK = re.compile(
    r"^```python\n(.*?)^```\n(?:\n\*(.*?)\*)?", re.MULTILINE | re.DOTALL
)
"""A block, and the caption that may follow it."""
CUT_OFF = ".*are cut off"
"""The warning of translators that have hardly learned: they do not end."""


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", run_page)
    return {"parallel_read_safe": True}


def run_page(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname != PAGE:
        return
    folder = Path(app.srcdir) / "_pictures"
    folder.mkdir(exist_ok=True)
    namespace: dict[str, object] = {}

    def with_results(block: re.Match[str]) -> str:
        printed, figure = run(block[1], namespace)
        text = f"```python\n{block[1]}```\n"
        if printed:
            text += f"\n```text\n{printed}```\n"
        if figure is not None:
            picture = save_figure(figure, folder / f"{block.start()}.png")
            caption = " ".join((block[2] or "").split())
            text += f"\n![{caption}](_pictures/{picture.name})\n"
        return text + (f"\n*{block[2]}*" if block[2] else "")

    source[0] = BLOCK.sub(with_results, source[0])
    models, letters = namespace["models"], namespace["letters"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", CUT_OFF)
        views = [
            Translator(model, letters, letters).view("3 02 97", title=name)
            for name, model in models.items()
        ]
    attention_page(views, Path(app.outdir) / "attention.html")


def run(code: str, namespace: dict[str, object]) -> tuple[str, Figure | None]:
    """What the code prints, and the figure that its last line is."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    value = None
    with (
        contextlib.redirect_stdout(io.StringIO()) as printed,
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", CUT_OFF)
        exec(compile(tree, PAGE, "exec"), namespace)
        if last is not None:
            value = eval(
                compile(ast.Expression(last.value), PAGE, "eval"), namespace
            )
    return printed.getvalue(), value if isinstance(value, Figure) else None
