"""`minitransformer translate|generate|classify|fill-mask|attend RUN ...`: use a model that a training script saved."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
import tyro

from minitransformer.errors import InputError, reported_to_user
from minitransformer.generation import Sampler
from minitransformer.pipelines.classifier import Classifier
from minitransformer.pipelines.completer import Completer
from minitransformer.pipelines.mask_filler import MaskFiller
from minitransformer.pipelines.translator import Translator
from minitransformer.plots import attention_heads, attention_map

T = TypeVar("T")
Run = Annotated[Path, tyro.conf.Positional]
Texts = Annotated[tuple[str, ...], tyro.conf.Positional]


@dataclass(frozen=True)
class Translate:
    """Translate lines: those given, those of --input, or those of standard input. One line out for each line in, some
    thousand lines at a time; a line break or tab within a translation is written as a space.

    With --n-best above 1 each line in gives that many lines out, best first: its number from 1 on, the score (log P
    over the length penalty) and the text, with tabs between. A blank line gives one, without score and text.
    """

    run: Run
    """A model folder, such as runs/translate-.../transformer."""
    texts: Texts = ()
    """Lines to translate."""
    input: Path | None = None
    """A UTF-8 text file with a line for each text."""
    beam: int = 5
    """How many translations of a line are followed at once. 1 is greedy."""
    alpha: float = 0.6
    """The length penalty: 0 prefers short translations, above 1 long ones."""
    n_best: int = 1
    """How many translations of each line to print."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: in bfloat16, which is faster for models 256 wide and more where the processor multiplies it. Texts may
    differ."""

    def __call__(self) -> None:
        check_source(self.texts, self.input)
        check_utf8(*self.texts)
        if self.beam < 1:
            raise InputError(f"--beam {self.beam} must be at least 1")
        if not 0 <= self.alpha < float("inf"):
            raise InputError(f"--alpha {self.alpha} must be 0 (no length penalty) or more, and finite")
        if not 1 <= self.n_best <= self.beam:
            raise InputError(f"--n-best {self.n_best} must be at least 1 and at most --beam {self.beam}")
        total = len(self.texts) or count_lines(self.input)
        translator = Translator.load(self.run)
        if self.precision == "bf16":
            translator.model.bfloat16()
        lines = given_lines(self.texts, self.input, "translate")
        found = translator.stream(lines, beam_size=self.beam, alpha=self.alpha, n_best=self.n_best)
        for number, translations in enumerate(counted(found, total), start=1):
            if self.n_best == 1:
                print(one_line(translations[0].text) if translations else "", flush=True)
                continue
            if not translations:
                print(f"{number}\t\t", flush=True)
            for translation in translations:
                print(f"{number}\t{translation.score:.4f}\t{one_line(translation.text)}", flush=True)


@dataclass(frozen=True)
class Generate:
    """Go on with a text, printed as it comes."""

    run: Run
    """A run of train.pretrain, or a GPT-2 checkpoint of Hugging Face with its tokenizer.json."""
    prompt: str = ""
    """What to go on with. Without one, the model begins a text."""
    max_new_tokens: int = 500
    temperature: float = 0.8
    """Below 1 plays safe, above 1 is bolder; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Draw from the k likeliest tokens only."""
    top_p: float | None = None
    """Draw from the likeliest tokens that together have this probability."""
    min_p: float | None = None
    """Draw from tokens at least this many times as likely as the likeliest."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that have occurred less likely."""
    stop: tuple[str, ...] = ()
    """Tokens to stop at, besides the end of text."""
    seed: int | None = None
    """The same seed gives the same text."""

    def __call__(self) -> None:
        check_utf8(self.prompt, *self.stop)
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed} must be at least 0 and less than {2**32}")
        completer = Completer.load(self.run)
        generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        stop_ids = {token: completer.tokenizer.token_to_id(token) for token in self.stop}
        if unknown := [token for token, index in stop_ids.items() if index is None]:
            raise InputError(f"--stop {' '.join(map(repr, unknown))}: no single token of this model's tokenizer")
        pieces = completer.stream(
            self.prompt,
            choose=Sampler(self.temperature, self.top_k, self.top_p, self.min_p, generator),
            max_new_tokens=self.max_new_tokens,
            repetition_penalty=self.repetition_penalty,
            stop_ids=stop_ids.values(),
        )
        print(self.prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()


@dataclass(frozen=True)
class Classify:
    """Label texts: those given, or the lines of --input or of standard input. A line out for each: label, probability.

    The two are separated by a tab. The line of an empty text is empty.
    """

    run: Run
    """A run of train.finetune."""
    texts: Texts = ()
    """Texts to label."""
    input: Path | None = None
    """A UTF-8 text file with a line for each text."""
    explain: bool = False
    """Below each label, a line for each word: the word, and what it counted for. With attention pooling this is the
    weight of the word, with mean pooling its part of the label's logit."""

    def __call__(self) -> None:
        check_source(self.texts, self.input)
        check_utf8(*self.texts)
        classifier = Classifier.load(self.run)
        lines = list(given_lines(self.texts, self.input, "label"))
        if self.explain:
            for line in lines:
                guess, words = classifier.explain(line) if line.strip() else (None, [])
                print("" if guess is None else f"{guess.label}\t{guess.probability:.4f}")
                for word, count in words:
                    print(f"\t{word}\t{count:.4f}")
            return
        guesses = iter(classifier([line for line in lines if line.strip()]))
        for line in lines:
            guess = next(guesses) if line.strip() else None
            print("" if guess is None else f"{guess.label}\t{guess.probability:.4f}")


@dataclass(frozen=True)
class FillMask:
    """Say which tokens fit where a text has [MASK] (or the tokenizer's <mask>): token, probability, line by line.

    Several gaps are told apart by an empty line.
    """

    run: Run
    """A run of train.pretrain bert, or a BERT, RoBERTa or ALBERT folder of Hugging Face's with its tokenizer.json."""
    text: Annotated[str, tyro.conf.Positional]
    top_k: int = 5
    """How many tokens to name."""

    def __call__(self) -> None:
        check_utf8(self.text)
        for number, fillings in enumerate(MaskFiller.load(self.run)(self.text, top_k=self.top_k)):
            if number:
                print()
            for token, probability in fillings:
                print(f"{token}\t{probability:.4f}")


@dataclass(frozen=True)
class Attend:
    """Translate one text and draw where each output token looked in it."""

    run: Run
    """A model folder, such as runs/translate-.../transformer."""
    text: Annotated[str, tyro.conf.Positional]
    out: Path = Path("attention.png")
    """The picture to write, a .png file."""
    heads: bool = False
    """Draw each head of the last layer by itself, instead of their mean."""

    def __call__(self) -> None:
        check_utf8(self.text)
        translation, source, target, weights = Translator.load(self.run).attention_map(self.text)
        if self.heads:
            path = attention_heads(weights, source, target, title=translation, path=self.out)
        else:
            path = attention_map(weights.mean(dim=0), source, target, title=translation, path=self.out)
        print(f"{translation}\n{path}")


def counted(results: Iterable[T], total: int | None) -> Iterator[T]:
    """The results, while a line on standard error, if that is a terminal, says how many there are so far."""
    shown, number = sys.stderr.isatty(), 0
    of_all = "" if total is None else f" of {total:,}"
    for number, result in enumerate(results, start=1):
        if shown and (number % 100 == 0 or number == total):
            print(f"\r{number:,}{of_all} lines", end="", file=sys.stderr, flush=True)
        yield result
    if shown and number:
        print(f"\r{number:,}{of_all} lines", file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """The text without what would end its line or its column."""
    return " ".join(text.replace("\t", " ").splitlines())


def check_source(texts: tuple[str, ...], input: Path | None) -> None:
    if texts and input is not None:
        raise InputError(f"texts and --input {input} at once: give one or the other")


def check_utf8(*texts: str) -> None:
    """Of a byte that is not UTF-8 the command line makes half a character, which no tokenizer takes."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{text[:100]!r} is not UTF-8 after {error.start} characters; convert it first") from error


def given_lines(texts: tuple[str, ...], input: Path | None, what_for: str) -> Iterator[str]:
    """The texts of the command line, or the lines of a file or of standard input, read as they are asked for; empty
    ones are counted aloud at the end."""
    count = empty = 0
    with ExitStack() as files:
        if texts:
            lines: Iterable[str] = texts
        elif input is not None:
            lines = read_lines(files.enter_context(input.open("rb")), str(input))
        else:
            lines = read_lines(sys.stdin.buffer, "standard input")
        for line in lines:
            count += 1
            empty += not line.strip()
            yield line
    if not count:
        raise InputError(f"there are no lines to {what_for}: the input is empty")
    if empty:
        warnings.warn(f"{empty} of {count} lines are empty and stay so", stacklevel=2)


def count_lines(input: Path | None) -> int | None:
    """How many lines a file has; `InputError` where one is not UTF-8, before work begins. None for what can be read
    but once."""
    if input is None or not input.is_file():
        return None
    with input.open("rb") as file:
        return sum(1 for _ in read_lines(file, str(input)))


def read_lines(file: Iterable[bytes], name: str) -> Iterator[str]:
    """The lines of UTF-8 text, ended by \\n or \\r\\n; `InputError` says where it is not UTF-8."""
    for number, data in enumerate(file, start=1):
        try:
            line = data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name} is not UTF-8: byte {error.object[error.start]:#04x} in line {number}; convert it first"
            ) from error
        if line:  # a byte order mark may be all there is
            yield line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user():
        commands: dict[str, Callable[..., Any]] = {
            "translate": Translate,
            "generate": Generate,
            "classify": Classify,
            "fill-mask": FillMask,
            "attend": Attend,
        }
        command = tyro.extras.subcommand_cli_from_dict(commands, prog="minitransformer", args=arguments)
        command()


if __name__ == "__main__":
    main()
