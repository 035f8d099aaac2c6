"""`minitransformer attend` and `explore`: the commands that show what models attend to."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from minitransformer.checks import Range, require_ranges
from minitransformer.errors import InputError
from minitransformer.models import RNNSeq2Seq, Transformer, kind_of
from minitransformer.page import View, attention_page
from minitransformer.page.page import require_html
from minitransformer.page.room import require_room, shapes_ahead
from minitransformer.pipelines import Translator
from minitransformer.pipelines.base import require_text
from minitransformer.pipelines.loading import Pipeline, load_pipeline, model_folders, titles
from minitransformer.plots import attention_heads, attention_map, require_png

RUN = """A model folder, such as runs/translate-.../transformer, or a run folder, whose models are compared."""


@dataclass(frozen=True)
class Attend:
    """Show what every head of one model, or of several, attends to in a text: a page for the browser.

    Translators translate the text, a GPT continues it, a BERT fills its gaps and a classifier labels it. A file that
    ends in .png is a picture instead: the mean attention of each output token of one translator to the input tokens.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help=RUN)]
    rest: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN ...] TEXT")] = ()
    """Runs to compare it with, and the text."""
    out: Path = Path("attention.png")
    """The page or picture to write, a .html or .png file."""
    layers: tuple[str, ...] | None = None
    """The layers to keep on a page, numbered from 1: 1,3 or 2-4. Default: all."""
    heads: tuple[str, ...] | None = None
    """The heads to keep on a page. In a picture, without numbers: draw each head of the last layer separately, instead
    of their mean."""

    def __call__(self) -> None:
        if not self.rest:
            raise InputError(f'give a text after the run: minitransformer attend {self.run} "the text"')
        *more, text = self.rest
        require_text(text)
        layers, heads = numbers("layers", self.layers), numbers("heads", self.heads)
        is_page = self.out.suffix.lower() != ".png"
        if is_page and self.out.suffix.lower() != ".html":
            raise InputError(f"--out {self.out}: give a name that ends in .png for a picture, or in .html for a page")
        if not is_page and (layers or heads):
            raise InputError("--layers and --heads with numbers are for a page: give --out a name that ends in .html")
        runs = [self.run, *map(Path, more)]
        if not is_page and more:
            raise InputError(f"{len(runs)} models in a picture, which shows one: --out page.html compares them")
        (require_html if is_page else require_png)(self.out)
        if is_page:
            views = views_of(loaded(runs), text, layers, heads)
            print(attention_page(views, self.out, layers=layers, heads=heads))
        else:
            self.draw(text)

    def draw(self, text: str) -> None:
        """The picture."""
        folders = model_folders(self.run)
        if len(folders) == 1 and not issubclass(kind := kind_of(folders[0]), Transformer | RNNSeq2Seq):
            raise InputError(f"{self.run} holds a {kind.__name__}, which does not translate: --out page.html shows it")
        translation, source, target, weights = Translator.load(self.run).attention_map(text)
        draw, maps = (attention_map, weights.mean(dim=0)) if self.heads is None else (attention_heads, weights)
        path = draw(maps, source, target, title=translation, path=self.out)
        print(f"{' '.join(translation.split())}\n{path}")


@dataclass(frozen=True)
class Explore:
    """The page of `attend` for texts that you type, on a server that this machine alone reaches. Ctrl-C ends it."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]", help=RUN)]
    port: Annotated[int, Range(at_least=0, at_most=65535)] = 8765
    """The port of 127.0.0.1; 0 takes a free one."""

    def __call__(self) -> None:
        from minitransformer.page.server import serve

        require_ranges(self)
        if not self.runs:
            raise InputError("give a run: minitransformer explore RUN")
        models = loaded(self.runs)
        if sum(pipeline.model.num_parameters() for pipeline, _ in models) < 500_000:
            torch.set_num_threads(1)  # small models run no faster on more
        serve(lambda text: views_of(models, text), self.port)


def loaded(runs: Sequence[Path]) -> list[tuple[Pipeline, str]]:
    """The models of the runs, each with a title."""
    folders = [folder for run in runs for folder in model_folders(run)]
    return [(load_pipeline(folder), title) for folder, title in zip(folders, titles(folders), strict=True)]


def views_of(
    models: Sequence[tuple[Pipeline, str]],
    text: str,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> list[View]:
    """The views of a text. `InputError`, before a model runs, where these layers and heads may be too many weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come with the views
        ahead = [shapes_ahead(each.model, each.map_sizes(text), layers, heads) for each, _ in models]
    require_room([shape for shapes in ahead for shape in shapes])
    return [pipeline.view(text, title=title) for pipeline, title in models]


def numbers(name: str, given: Sequence[str] | None) -> list[int] | None:
    """The numbers of a flag: ("1,3-5",) is 1, 3, 4, 5; None for none. `InputError` for anything else."""
    if not given:
        return None
    found: list[int] = []
    for part in ",".join(given).split(","):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)) or max(len(first), len(last)) > 4:
            raise InputError(f"{name}={','.join(given)!r}: give numbers from 1, such as 1,3 or 2-4")
        found += range(int(first), int(last or first) + 1)
    return found
