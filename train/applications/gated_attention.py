"""Gated attention: a network decides which words of a review to read, before it attends to them.

Soft attention gives every word a weight above 0, so that it reads all of them. The Gated Attention Network (Xue, Li and
Zhang 2020, "Not All Attention Is Needed") has a gate at every word. A small auxiliary network sees the sentence first
and closes most of them; attention then chooses among the words that are left:

    p_t = σ(w · a_t + b)              a = BiLSTM(x), the auxiliary network
    g_t ~ Bernoulli(p_t)
    α_t = g_t exp(e_t) / Σ_s g_s exp(e_s) = softmax(e + log g)_t          e_t = vᵀ tanh(U h_t + b')
    L = cross-entropy + λ · the share of open gates

A drawn gate has no gradient. Training therefore uses a number between 0 and 1 that has one (Jang et al. 2017): with
u ~ Uniform(0, 1), g = σ((log p/(1 - p) + log u/(1 - u)) / τ), which is above 1/2 with probability p.

If all gates of a sentence are closed, α is 0/0. Then the gate with the largest p opens, and the table counts how often.

h_t is the vector of word t itself, so that a closed gate hides its word. The paper's h comes from a BiLSTM, whose state
at one word has seen all the others. The rivals have no auxiliary network, and wider word vectors instead: one reads all
words, the other has gates that open at random.

python -m train.applications.gated_attention
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from rich.console import Console
from torch import Tensor, nn

from minitransformer.attention_maps import record_attention
from minitransformer.checks import Count, Range
from minitransformer.data import load
from minitransformer.data.batching import token_batches
from minitransformer.dropout import Dropout
from minitransformer.models.base import Config, Ids, Loss, Model, Valid, embedded, target_loss
from minitransformer.models.rnn_encoder import RecurrentEncoder
from minitransformer.plots import save_figure
from minitransformer.recurrent import Additive
from minitransformer.text_encoding import pad
from train.applications.rivals import ApplicationSettings, Contest, Size, Split, parameters_of
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate
from train.engine.training_data import Rows

WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]")
PAD, UNKNOWN, FIRST_WORD = 0, 1, 2
LABELS = ("negative", "positive")
Vectors = Float[Tensor, "batch time d_model"]
PerWord = Float[Tensor, "batch time"]


@dataclass(frozen=True)
class GatedAttentionSettings(ApplicationSettings):
    """Label film reviews from fewer than half of their words, beside attention to all words and gates at random."""

    settings_file: ClassVar[str] = "gated_attention.json"

    lr: LearningRate = 4e-3
    batch_size: Count = 128
    evaluations: Count = 8
    d_model: Size = 100
    """The width of a word vector."""
    density: Annotated[float, Range(at_least=0, at_most=1)] = 0.45
    """The share of open gates that costs nothing, 0 in the paper; of random gates, how many are open."""
    penalty: Annotated[float, Range(at_least=0, at_most=1000)] = 0.3
    """λ, in nats for a sentence whose gates are all open."""


def main(arguments: list[str] | None = None) -> None:
    run_job(GatedAttentionSettings, "applications.gated_attention", compare, arguments)


def compare(settings: GatedAttentionSettings, folder: Path, console: Console) -> None:
    texts = load("reviews")
    vocabulary = frequent_words(texts["train"]["text"])
    data = {name: encoded(split["text"], split["label"], vocabulary) for name, split in texts.items()}
    sizes = {name: getattr(settings, name) for name in ("d_model", "density", "penalty")}
    new = partial(GatedReaderConfig, FIRST_WORD + len(vocabulary), **sizes)
    # The rivals spend the parameters of the auxiliary network on wider word vectors.
    gated, plain = (parameters_of(partial(GatedReader, new(gates=gates))) for gates in ("learned", "open"))
    wide = settings.d_model + round((gated - plain) / (FIRST_WORD + len(vocabulary)))
    Contest(
        rivals={
            "gated attention": partial(GatedReader, new()),
            "soft attention": partial(GatedReader, new(gates="open", d_model=wide)),
            "random gates": partial(GatedReader, new(gates="random", d_model=wide)),
        },
        data=data,
        batches=Sentences,
        evaluate=figures,
        best="accuracy",
        test=figures,
        draw=lambda models, rows, path: show(models["gated attention"], rows, texts["test"]["text"], path, console),
        steps=400,
        warmup_steps=30,
        unit="sentences",
    ).run(settings, folder, console)


# The data


def words_of(text: str) -> list[str]:
    """Words and punctuation marks, in lower case; a text without any is one word."""
    return WORD.findall(text.lower()) or [text]


def frequent_words(texts: Sequence[str]) -> dict[str, int]:
    """The ids of the words that occur twice or more; all others are unknown."""
    counts = Counter(word for text in texts for word in words_of(text))
    return {word: FIRST_WORD + place for place, word in enumerate(sorted(w for w in counts if counts[w] > 1))}


def encoded(texts: Sequence[str], labels: Sequence[int], vocabulary: Mapping[str, int]) -> Split:
    ids = pad([[vocabulary.get(word, UNKNOWN) for word in words_of(text)] for text in texts], PAD)
    return {"ids": ids, "valid": ids != PAD, "labels": torch.tensor(labels)}


class Sentences(Rows):
    """Batches of sentences of nearly equal length, without the columns that are padding in all of them."""

    def epoch(self, number: int) -> Sequence[Sequence[int]]:
        lengths = self.rows["valid"].sum(dim=1)
        words = self.batch_size * int(lengths.float().mean().ceil())
        return token_batches(lengths, words, seed=self.seed * 1_000_003 + number)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        batch = super().batch(rows)
        longest = int(batch["valid"].sum(dim=1).max())
        return {name: tensor[:, :longest] if tensor.dim() == 2 else tensor for name, tensor in batch.items()}


# The model


@dataclass(frozen=True)
class GatedReaderConfig(Config):
    """`gates` are "learned", "random" (open with probability `density`) or all "open"."""

    vocab_size: int
    d_model: int
    hidden_size: int = 32
    gates: Literal["learned", "random", "open"] = "learned"
    density: float = 0.45
    penalty: float = 0.3
    temperature: float = 1.0
    dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("vocab_size", "d_model", "hidden_size", "temperature")
        self.require_fraction("density", "dropout")


class Gates(NamedTuple):
    """log g, which words may be read, which sentences had all gates closed, and in training p."""

    log: PerWord | None
    open: Valid
    all_closed: Bool[Tensor, " batch"]
    p: PerWord | None = None


class GatedReader(Model):
    """Words, gates at them, additive attention to what the gates let through, two labels. Gates are open at first:
    p = 0.88. Word vectors start from a normal distribution with standard deviation 0.1, the rest as torch's modules."""

    config_class = GatedReaderConfig

    def __init__(self, config: GatedReaderConfig):
        super().__init__()
        self.config = c = config
        self.words, self.dropout = nn.Embedding(c.vocab_size, c.d_model), Dropout(c.dropout)
        nn.init.normal_(self.words.weight, std=0.1)
        self.auxiliary = None
        if c.gates == "learned":
            self.auxiliary = RecurrentEncoder(
                "lstm", c.d_model, c.hidden_size, 1, bidirectional=True, dropout=c.dropout
            )
            self.gate = nn.Linear(self.auxiliary.output_size, 1)
            nn.init.constant_(self.gate.bias, 2.0)
        self.attention = Additive(1, c.d_model, c.d_model)  # the query is always 1: its projection is the bias b'
        self.output = nn.Linear(c.d_model, 2)

    def forward(self, ids: Ids, valid: Valid) -> Float[Tensor, "batch labels"]:
        return self.read(*self.see(ids, valid), valid)

    def see(self, ids: Ids, valid: Valid) -> tuple[Vectors, Gates]:
        """The word vectors, and the gates at them."""
        vectors = self.dropout(embedded(self.words, "ids", ids, self.config.vocab_size))
        logits = self.gate_logits(vectors, valid)
        if self.auxiliary is None or not self.training:
            return vectors, opened(logits, valid)
        log = relaxed_log_gates(logits, torch.rand_like(logits), self.config.temperature)
        return vectors, Gates(log, valid, torch.zeros_like(valid[:, 0]), torch.sigmoid(logits))

    def gate_logits(self, vectors: Vectors, valid: Valid) -> PerWord:
        """log p/(1 - p). Random gates have numbers above 0 as often as they are to be open."""
        if self.auxiliary is not None:
            return self.gate(self.auxiliary(vectors, valid)[0])[..., 0]
        if self.config.gates == "open":
            return torch.full_like(vectors[..., 0], torch.inf)
        generator = None if self.training else torch.Generator(valid.device).manual_seed(0)  # the same at every call
        return self.config.density - torch.rand(valid.shape, generator=generator, device=valid.device)

    def read(self, vectors: Vectors, gates: Gates, valid: Valid) -> Float[Tensor, "batch labels"]:
        """Attend with softmax(e + log g), and label."""
        scores = self.attention.scores(vectors.new_ones(len(vectors), 1, 1), self.attention.keys(vectors), valid)
        if gates.log is not None:
            scores = scores + gates.log[:, None]
        return self.output(self.dropout(self.attention.read(scores, vectors, gates.open[:, None])[:, 0]))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """L. Open gates up to the `density` cost nothing, sentence by sentence, so that losses of batches add up."""
        valid = batch["valid"]
        vectors, gates = self.see(batch["ids"], valid)
        total = target_loss(self.read(vectors, gates, valid), batch["labels"], "labels")
        if gates.p is not None:
            share = (gates.p * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
            total = total + self.config.penalty * F.relu(share - self.config.density).sum()
        return {"label": Loss(total, torch.tensor(len(valid)))}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"label": torch.tensor(len(batch["labels"]))}


def relaxed_log_gates(logits: PerWord, uniform: PerWord, temperature: float) -> PerWord:
    """log g = log σ((log p/(1 - p) + log u/(1 - u)) / τ): the Gumbel softmax of two classes."""
    tiny = torch.finfo(uniform.dtype).eps
    return F.logsigmoid((logits + torch.logit(uniform, tiny)) / temperature)


def opened(logits: PerWord, valid: Valid) -> Gates:
    """The gates above 0 are open, which for a learned p is p > 1/2; of a sentence without any, the largest one."""
    logits = logits.masked_fill(~valid, -torch.inf)
    above = logits > 0
    all_closed = ~above.any(dim=1)
    largest = F.one_hot(logits.argmax(dim=1), logits.shape[1]).bool()
    return Gates(None, above | (largest & valid & all_closed[:, None]), all_closed)


# The figures and the picture


@torch.inference_mode()
def reading(model: GatedReader, split: Split) -> Split:
    """By sentence: which words are `read`, with what `attention`, whether gates were `all closed`, `guess`, `loss`."""
    ids, valid, labels = (split[name].to(model.device) for name in ("ids", "valid", "labels"))
    vectors, gates = model.eval().see(ids, valid)
    with record_attention(model) as maps:
        logits = model.read(vectors, gates, valid)
    nats = F.cross_entropy(logits, labels, reduction="none")
    found = {"read": gates.open, "attention": maps["attention"][:, 0, 0], "all closed": gates.all_closed}
    return {name: tensor.cpu() for name, tensor in (found | {"guess": logits.argmax(dim=1), "loss": nats}).items()}


def figures(model: GatedReader, split: Split) -> dict[str, float]:
    """`density` is the share of all words that are read, `all closed` that of the sentences whose gates all were."""
    found = reading(model, split)
    columns = {"accuracy": found["guess"] == split["labels"], "density": found["read"][split["valid"]]}
    columns |= {name: found[name] for name in ("all closed", "loss")}
    return {name: column.float().mean().item() for name, column in columns.items()}


def show(model: GatedReader, split: Split, texts: Sequence[str], path: Path, console: Console) -> None:
    """Sentences that fit a line, with [brackets] around the words that were read; in the picture the others are grey,
    and behind the words that were read is the colour of their attention."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    found, letters, words = reading(model, split), 96, [words_of(text) for text in texts]
    shown = [row for row, each in enumerate(words) if len(" ".join(each)) < letters - 10][:12]
    figure = Figure(figsize=(letters * 0.602 * 9 / 72, 4))  # in inches, for letters of 9 points
    axes = figure.add_axes((0, 0, 1, 0.88), xlim=(0, letters), ylim=(len(shown), -1))
    axes.axis("off")
    for line, row in enumerate(shown):
        answer, right = LABELS[found["guess"][row]], found["guess"][row] == split["labels"][row]
        marked = [f"[{word}]" if read else word for word, read in zip(words[row], found["read"][row], strict=False)]
        console.print(f"{answer} ({'right' if right else 'wrong'}): {' '.join(marked)}", markup=False)
        axes.text(0, line, answer, fontsize=9, color="black" if right else "#c1121f")
        place = 10
        for word, read, weight in zip(words[row], found["read"][row], found["attention"][row], strict=False):
            box = {"facecolor": colormaps["Oranges"](weight.item()), "edgecolor": "none", "pad": 1} if read else None
            colour = "black" if read else "0.6"
            axes.text(place, line, word, parse_math=False, family="monospace", fontsize=9, color=colour, bbox=box)
            place += len(word) + 1
    figure.suptitle("Grey words are not read. The darker the orange, the more attention. Wrong labels are red.")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
