"""`minitransformer translate|generate|classify|fill-mask|attend|explore RUN ...`: use a model that a script trained."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
import tyro

from minitransformer.attend import Attend, Explore
from minitransformer.beam import ALPHA
from minitransformer.checks import Count, Range, Seed, require_ranges
from minitransformer.data.text_file import read_lines
from minitransformer.decodable import MOST_NEW_TOKENS
from minitransformer.errors import InputError
from minitransformer.generation import Sampler
from minitransformer.pipelines import Classifier, Completer, MaskFiller, Translator
from minitransformer.pipelines.base import require_text, texts_of
from minitransformer.reporting import naming_flags, reported_to_user

T = TypeVar("T")
Run = Annotated[Path, tyro.conf.Positional]
Precision = Literal["fp32", "bf16", "int8"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
MaxNewTokens = Annotated[int, Range(at_least=0, at_most=MOST_NEW_TOKENS)]


@dataclass(frozen=True)
class Lines:
    """A command's model and texts: those on the command line, or the lines of the file --input or standard input."""

    run: Run
    """The model's folder: of train.translate, such as runs/translate-.../transformer, or of train.finetune."""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The texts."""
    input: Path | None = None
    """A text file with one text a line, in UTF-8, or in UTF-16 with its byte order mark."""

    def check(self) -> int | None:
        """How many texts there are, None for a pipe. `InputError` for flags out of range, texts from two places and
        what is not UTF-8, a whole file too, before work begins."""
        require_ranges(self)
        if self.texts and self.input is not None:
            raise InputError(f"texts and --input {self.input} at once: give one or the other")
        if self.input is not None and (self.input.is_char_device() or self.input.is_block_device()):
            raise InputError(f"--input {self.input} is a device, which may never end: give a file")
        can_be_read_twice = self.texts or (self.input is not None and self.input.is_file())
        return sum(1 for _ in self.lines()) if can_be_read_twice else None

    def lines(self) -> Iterator[str]:
        if self.texts:
            yield from texts_of(self.texts)
        elif self.input is None:
            yield from lines_of_stream(sys.stdin.buffer, "standard input")
        elif self.input.is_file():
            yield from read_lines(self.input)
        else:
            with self.input.open("rb") as file:
                yield from lines_of_stream(file, str(self.input))

    def read(self) -> Iterator[str]:
        """The texts, read lazily. A warning at the end counts the empty ones."""
        count = empty = 0
        for line in self.lines():
            count += 1
            empty += not line.strip()
            yield line
        if empty:
            warnings.warn(f"{empty} of {count} lines are empty and stay empty", stacklevel=2)


@dataclass(frozen=True)
class Translate(Lines):
    """Translate lines given as arguments, in the file --input, or on standard input. Each line in gives one line out;
    a line break or tab within a translation is written as a space.

    With --n-best above 1, each line in gives that many lines out, best first, of three columns separated by tabs: the
    number of the line, from 1; the score (log P over the length penalty); and the text. A blank line gives one line
    without score and text.
    """

    beam: Annotated[int, Range(at_least=1, at_most=10_000)] = 5
    """The beam size. 1 is greedy."""
    alpha: Annotated[float, Range(at_least=0, at_most=10)] = ALPHA
    """The length penalty: 0 prefers short translations, more than 1 long ones."""
    n_best: Count = 1
    """How many translations of each line to print."""
    max_new_tokens: MaxNewTokens | None = None
    """The most tokens of a translation. Default: the limit that the model was scored with, usually 50 more than in the
    line. A warning counts the translations that are cut off there."""
    precision: Precision = "fp32"
    """bf16 is faster for models of d_model 256 and more if the processor multiplies bfloat16. int8 keeps weights of
    8 bits and is for Transformers on a CPU. Translations may differ."""

    def __call__(self) -> None:
        total = self.check()
        if self.n_best > self.beam:
            raise InputError(f"--n-best {self.n_best} must be at most --beam {self.beam}")
        translator = Translator.load(self.run, DTYPES[self.precision])
        options: dict[str, Any] = dict(beam_size=self.beam, alpha=self.alpha, n_best=self.n_best)
        found = translator.stream(self.read(), max_new_tokens=self.max_new_tokens, **options)
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
    """Continue a text, and print it as it is generated."""

    run: Run
    """A run of train.pretrain gpt, or a Hugging Face checkpoint of GPT-2, Llama, Qwen3, Arcee or Mistral with its
    tokenizer.json."""
    prompt: str = ""
    """The text to continue. Without one, the model begins a new text."""
    max_new_tokens: MaxNewTokens = 500
    """The most tokens to generate; the text may end before."""
    temperature: Annotated[float, Range(at_least=0, at_most=1e38)] = 0.8
    """Less than 1 makes likely tokens likelier, more than 1 less likely; 0 always takes the likeliest."""
    top_k: Count | None = None
    """Sample from the k likeliest tokens only."""
    top_p: Annotated[float, Range(more_than=0, at_most=1)] | None = None
    """Sample from the likeliest tokens that together have this probability."""
    min_p: Annotated[float, Range(at_least=0, at_most=1)] | None = None
    """Sample from tokens whose probability is at least this fraction of the likeliest token's."""
    repetition_penalty: Annotated[float, Range(at_least=1e-6, at_most=1e6)] = 1.0
    """More than 1 makes tokens that have occurred less likely."""
    stop: tuple[str, ...] = ()
    """Tokens to stop at, besides end-of-text."""
    seed: Seed | None = None
    """The same seed gives the same text."""
    precision: Precision = "fp32"
    """bf16 takes half of the memory, and less time where memory is what limits it. int8 keeps weights of
    8 bits and is faster still on a CPU. Texts may differ."""

    def __call__(self) -> None:
        require_ranges(self)
        for text in (self.prompt, *self.stop):
            require_text(text)
        completer = Completer.load(self.run, DTYPES[self.precision])
        generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        stop_ids = {token: completer.tokenizer.token_to_id(token) for token in self.stop}
        if unknown := [token for token, index in stop_ids.items() if index is None]:
            raise InputError(f"--stop {' '.join(map(repr, unknown))}: not a token of this model's tokenizer")
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
class Classify(Lines):
    """Label texts given as arguments, in the file --input, or on standard input, one a line.

    Each text gives one line: the label and its probability, separated by a tab. An empty text gives an empty line.
    """

    explain: bool = False
    """Print below each label a line for each word: the word, and how much it counted. With attention pooling that is
    its attention weight, with mean pooling its share of the label's logit."""

    def __call__(self) -> None:
        self.check()
        classifier = Classifier.load(self.run)
        lines = list(self.read())
        texts = [line for line in lines if line.strip()]
        explained = iter(classifier.explain(texts) if self.explain else [(guess, []) for guess in classifier(texts)])
        for line in lines:
            if not line.strip():
                print()
                continue
            guess, words = next(explained)
            print(f"{one_line(guess.label)}\t{guess.probability:.4f}")
            for word, count in words:
                print(f"\t{one_line(word)}\t{count:.4f}")


@dataclass(frozen=True)
class FillMask:
    """Print the likeliest tokens for each [MASK] (or <mask>, as the tokenizer spells it) of a text.

    Each token gives one line: the token and its probability, separated by a tab. An empty line separates the gaps.
    """

    run: Run
    """A run of train.pretrain bert, or a Hugging Face checkpoint of BERT, RoBERTa or ALBERT with its tokenizer.json."""
    text: Annotated[str, tyro.conf.Positional]
    top_k: Count = 5
    """How many tokens to print."""

    def __call__(self) -> None:
        require_ranges(self)
        require_text(self.text)
        for number, fillings in enumerate(MaskFiller.load(self.run)(self.text, top_k=self.top_k)):
            if number:
                print()
            for token, probability in fillings:
                print(f"{one_line(token)}\t{probability:.4f}")


def counted(results: Iterable[T], total: int | None) -> Iterator[T]:
    """The results; meanwhile a line on standard error counts them, if that is a terminal."""
    shown, number = sys.stderr.isatty(), 0
    of_all = "" if total is None else f" of {total:,}"
    for number, result in enumerate(results, start=1):
        if shown and (number % 100 == 0 or number == total):
            print(f"\r{number:,}{of_all} lines", end="", file=sys.stderr, flush=True)
        yield result
    if shown and number:
        print(f"\r{number:,}{of_all} lines", file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """The text with spaces instead of line breaks and tabs."""
    return " ".join(text.replace("\t", " ").splitlines())


def lines_of_stream(file: Iterable[bytes], name: str) -> Iterator[str]:
    """The lines of UTF-8 text as they come, by the rules of `read_lines`; `InputError` says which one is not UTF-8."""
    for number, data in enumerate(file, start=1):
        try:
            line = data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name}, line {number}: byte 0x{error.object[error.start]:02x} is not UTF-8; convert it first"
            ) from error
        if line:  # the stream may hold a byte order mark alone
            yield line.removesuffix("\n").rstrip("\r")


def main(arguments: list[str] | None = None) -> None:
    closed = sys.stdout is None
    with reported_to_user():
        if closed:
            raise InputError("standard output is closed, and the results would go there")
        commands: dict[str, Callable[..., Any]] = {"translate": Translate, "generate": Generate, "classify": Classify}
        commands |= {"fill-mask": FillMask, "attend": Attend, "explore": Explore}
        command = tyro.extras.subcommand_cli_from_dict(commands, prog="minitransformer", args=arguments)
        with naming_flags(type(command)):
            command()


if __name__ == "__main__":
    main()
