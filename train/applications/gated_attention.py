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

h_t is the vector of word t itself, so that a closed gate hides its word. The paper's h comes from a BiLSTM
(--layers 2), whose state at one word has seen all the others. The rivals have no auxiliary network, and wider word
vectors instead: one reads all words, the other has gates that open at random.

python -m train.applications.gated_attention
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn

from minitransformer.attention_maps import record_attention
from minitransformer.checks import Count, CountOrZero, Range
from minitransformer.data import load
from minitransformer.data.batching import token_batches
from minitransformer.dropout import Dropout
from minitransformer.models.base import Config, Ids, Loss, Model, Valid, embedded, require_shape_of, target_loss
from minitransformer.models.rnn_encoder import RecurrentEncoder
from minitransformer.plots import save_figure
from minitransformer.recurrent import Additive
from minitransformer.text_encoding import pad
from train.applications.rivals import ApplicationSettings, Contest, Rows, Split, parameters_of
from train.engine.processes import Processes
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]")
PAD, UNKNOWN, FIRST_WORD = 0, 1, 2
LABELS = ("negative", "positive")
LINE, LETTER = 96, 0.602 * 9 / 72
"""Letters in a line of the picture, and the width of one in inches."""


@dataclass(frozen=True)
class GatedAttentionSettings(ApplicationSettings):
    """Label film reviews from fewer than half of their words, beside attention to all words and gates at random."""

    settings_file: ClassVar[str] = "gated_attention.json"

    lr: LearningRate = 4e-3
    batch_size: Count = 128
    evaluations: Count = 8
    d_model: Count = 100
    """The width of a word vector."""
    hidden_size: Count = 32
    """Of each direction of an LSTM."""
    layers: CountOrZero = 0
    """Layers of a BiLSTM between words and attention, 2 in the paper. 0: attention reads the words themselves."""
    density: Annotated[float, Range(at_least=0, at_most=1)] = 0.45
    """The share of a sentence's gates that may be open without a penalty, 0 in the paper; for random gates, the
    probability of being open."""
    penalty: Annotated[float, Range(at_least=0, at_most=1000)] = 0.3
    """λ, in nats for a sentence whose gates are all open."""


def main(arguments: list[str] | None = None) -> None:
    run_job(GatedAttentionSettings, "applications.gated_attention", compare, arguments)


def compare(settings: GatedAttentionSettings, folder: Path, console: Console) -> None:
    texts = Processes.current().local_rank_0_first(lambda: load("reviews"))
    vocabulary = frequent_words(texts["train"]["text"])
    data = {name: encoded(split["text"], split["label"], vocabulary) for name, split in texts.items()}
    sizes = {name: getattr(settings, name) for name in ("d_model", "hidden_size", "layers", "density", "penalty")}
    gated = GatedReaderConfig(FIRST_WORD + len(vocabulary), **sizes)
    # The auxiliary network's parameters, spent on wider word vectors.
    spare = parameters_of(lambda: GatedReader(gated)) - parameters_of(lambda: GatedReader(replace(gated, gates="open")))
    wide = replace(gated, d_model=settings.d_model + round(spare / gated.vocab_size))

    def show(models: Mapping[str, "GatedReader"], rows: Split, path: Path) -> None:
        found, test = readings(models["gated attention"], rows), texts["test"]["text"][:]
        for reading in found[:8]:
            console.print(marked(reading, test[reading.row]))
        draw(found, test, path)

    Contest(
        rivals={
            "gated attention": lambda: GatedReader(gated),
            "soft attention": lambda: GatedReader(replace(wide, gates="open")),
            "random gates": lambda: GatedReader(replace(wide, gates="random")),
        },
        data=data,
        evaluate=evaluate,
        best="accuracy",
        test=evaluate,
        draw=show,
        steps=400,
        warmup_steps=30,
        unit="sentences",
        batches=Sentences,
    ).run(settings, folder, console)


def evaluate(model: "GatedReader", rows: Split) -> dict[str, float]:
    return figures(readings(model, rows))


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
    hidden_size: int
    layers: int = 0
    gates: str = "learned"
    density: float = 0.45
    penalty: float = 0.3
    temperature: float = 1.0
    dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("vocab_size", "d_model", "hidden_size", "temperature")
        self.require_fraction("density", "dropout")
        self.require_one_of("gates", ("learned", "random", "open"))


class Gates(NamedTuple):
    """log g and which gates are open (B, T), whether all of a sentence's were closed (B,), and the learned p."""

    log: Float[Tensor, "batch time"] | None
    open: Bool[Tensor, "batch time"]
    all_closed: Bool[Tensor, " batch"]
    p: Float[Tensor, "batch time"] | None = None


class GatedReader(Model):
    """Words, gates at them, additive attention to what the gates let through, two labels."""

    config_class = GatedReaderConfig

    def __init__(self, config: GatedReaderConfig):
        super().__init__()
        self.config = c = config
        self.words = nn.Embedding(c.vocab_size, c.d_model)
        width = c.d_model
        sizes: dict[str, Any] = {"bidirectional": True, "dropout": c.dropout}
        self.backbone, self.auxiliary = None, None
        if c.layers:
            self.backbone = RecurrentEncoder("lstm", c.d_model, c.hidden_size, c.layers, **sizes)
            width = self.backbone.output_size
        if c.gates == "learned":
            self.auxiliary = RecurrentEncoder("lstm", c.d_model, c.hidden_size, 1, **sizes)
            self.gate = nn.Linear(self.auxiliary.output_size, 1)
        # Of a query that is always 1, the projection is the bias b'.
        self.attention = Additive(1, width, width)
        self.output = nn.Linear(width, 2)
        self.dropout = Dropout(c.dropout)
        self.init_weights()

    def init_weights(self) -> None:
        """Word vectors are normal with standard deviation 0.1. Gates are open at first: p = 0.88."""
        nn.init.normal_(self.words.weight, std=0.1)
        if self.auxiliary is not None:
            nn.init.constant_(self.gate.bias, 2.0)

    def forward(self, ids: Ids, valid: Valid) -> Float[Tensor, "batch labels"]:
        return self.read(*self.see(ids, valid), valid)

    def see(self, ids: Ids, valid: Valid) -> tuple[Float[Tensor, "batch time d_model"], Gates]:
        """The word vectors, and the gates at them."""
        require_shape_of(ids, valid=valid)
        vectors = self.dropout(embedded(self.words, "ids", ids, self.config.vocab_size))
        return vectors, self.gates(vectors, valid)

    def gates(self, vectors: Float[Tensor, "batch time d_model"], valid: Valid) -> Gates:
        if self.config.gates == "open":
            return Gates(None, valid, torch.zeros_like(valid[:, 0]))
        if self.auxiliary is None:
            # Where nothing is trained, the same ones at every call.
            generator = None if self.training else torch.Generator(valid.device).manual_seed(0)
            chance = torch.rand(valid.shape, generator=generator, device=valid.device)
            return opened(self.config.density - chance, valid)
        logits = rearrange(self.gate(self.auxiliary(vectors, valid)[0]), "batch time 1 -> batch time")
        p = torch.sigmoid(logits)
        if self.training:
            log = relaxed_log_gates(logits, torch.rand_like(logits), self.config.temperature)
            return Gates(log, valid, torch.zeros_like(valid[:, 0]), p)
        return opened(logits, valid)._replace(p=p)

    def read(
        self, vectors: Float[Tensor, "batch time d_model"], gates: Gates, valid: Valid
    ) -> Float[Tensor, "batch labels"]:
        """Attend with softmax(e + log g), and label."""
        states = vectors if self.backbone is None else self.backbone(vectors, valid)[0]
        query = states.new_ones(len(states), 1, 1)
        scores = self.attention.scores(query, self.attention.keys(states), valid)
        if gates.log is not None:
            scores = scores + rearrange(gates.log, "batch time -> batch 1 time")
        summary = self.attention.read(scores, states, rearrange(gates.open, "batch time -> batch 1 time"))
        return self.output(self.dropout(rearrange(summary, "batch 1 width -> batch width")))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """L. Open gates up to the `density` cost nothing, sentence by sentence, so that losses of batches add up."""
        valid = batch["valid"]
        vectors, gates = self.see(batch["ids"], valid)
        total = target_loss(self.read(vectors, gates, valid), batch["labels"], "labels")
        if gates.p is not None:
            share = (gates.p * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
            total = total + self.config.penalty * F.relu(share - self.config.density).sum()
        return {"label": Loss(total, self.count_targets(batch)["label"])}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"label": batch["labels"].new_tensor(len(batch["labels"]))}


def relaxed_log_gates(
    logits: Float[Tensor, "batch time"], uniform: Float[Tensor, "batch time"], temperature: float
) -> Float[Tensor, "batch time"]:
    """log g = log σ((log p/(1 - p) + log u/(1 - u)) / τ): the Gumbel softmax of two classes."""
    tiny = torch.finfo(uniform.dtype).eps
    return F.logsigmoid((logits + torch.logit(uniform, tiny)) / temperature)


def opened(logits: Float[Tensor, "batch time"], valid: Valid) -> Gates:
    """The gates above 0 are open, which for a learned p is p > 1/2; of a sentence without any, the largest one."""
    logits = logits.masked_fill(~valid, float("-inf"))
    above = logits > 0
    all_closed = ~above.any(dim=1)
    largest = F.one_hot(logits.argmax(dim=1), logits.shape[1]).bool()
    fallback = largest & rearrange(all_closed, "batch -> batch 1") & valid
    return Gates(None, above | fallback, all_closed)


# The figures and the picture


@dataclass(frozen=True)
class Reading:
    """One sentence of a split as the model reads it. `weights` are the attention to each word, 0 at closed gates."""

    row: int
    read: list[bool]
    weights: list[float]
    all_closed: bool
    label: int
    guess: int
    nats: float


@torch.inference_mode()
def readings(model: GatedReader, split: Split) -> list[Reading]:
    """Of every sentence, in the order of the split."""
    found = []
    data = Sentences(split, batch_size=256, seed=0)
    for rows in data.epoch(0):
        batch = {name: tensor.to(model.device) for name, tensor in data.batch(rows).items()}
        vectors, gates = model.eval().see(batch["ids"], batch["valid"])
        with record_attention(model) as maps:
            logits = model.read(vectors, gates, batch["valid"])
        nats = F.cross_entropy(logits, batch["labels"], reduction="none")
        columns = (
            gates.open,
            maps["attention"][:, 0, 0],
            gates.all_closed,
            batch["labels"],
            logits.argmax(dim=1),
            nats,
        )
        lengths = batch["valid"].sum(dim=1).tolist()
        for row, length, read, weights, *rest in zip(rows, lengths, *(c.tolist() for c in columns), strict=True):
            found.append(Reading(row, read[:length], weights[:length], *rest))
    return sorted(found, key=lambda reading: reading.row)


def figures(found: Sequence[Reading]) -> dict[str, float]:
    """`density` is the share of all words that are read, `all closed` that of the sentences whose gates all were."""
    count = len(found)
    return {
        "accuracy": sum(reading.guess == reading.label for reading in found) / count,
        "density": sum(sum(reading.read) for reading in found) / sum(len(reading.read) for reading in found),
        "all closed": sum(reading.all_closed for reading in found) / count,
        "loss": sum(reading.nats for reading in found) / count,
    }


def marked(reading: Reading, text: str) -> Text:
    """The sentence with [brackets] around the words that were read."""
    words = [f"[{word}]" if read else word for word, read in zip(words_of(text), reading.read, strict=True)]
    verdict = "right" if reading.guess == reading.label else "wrong"
    return Text(f"{LABELS[reading.guess]} ({verdict}): {' '.join(words)}")


def draw(found: Sequence[Reading], texts: Sequence[str], path: Path) -> None:
    """Ten sentences. Closed gates leave a word grey; behind the others is the colour of their attention."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure, line = Figure(figsize=(LINE * LETTER, 5.5)), 0.0
    axes = figure.add_axes((0, 0, 1, 0.93))
    for reading in [reading for reading in found if len(reading.read) >= 10][:10]:
        verdict = "" if reading.guess == reading.label else f", but people rated it {LABELS[reading.label]}"
        axes.text(0, line, LABELS[reading.guess] + verdict, fontsize=9, style="italic")
        line, place = line + 1, 2
        for word, read, weight in zip(words_of(texts[reading.row]), reading.read, reading.weights, strict=True):
            if place + len(word) > LINE:
                line, place = line + 1, 2
            box = {"facecolor": colormaps["Oranges"](weight), "edgecolor": "none", "pad": 1} if read else None
            style: Any = {"family": "monospace", "fontsize": 9, "color": "black" if read else "0.6", "bbox": box}
            axes.text(place, line, word, parse_math=False, **style)
            place += len(word) + 1
        line += 1.5
    axes.set(xlim=(0, LINE), ylim=(line, -1))
    axes.axis("off")
    figure.suptitle("Grey words are not read: their gates are closed. The darker the orange, the more attention.")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
