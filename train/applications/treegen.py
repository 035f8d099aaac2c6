"""TreeGen: a Transformer writes a program rule by rule along its syntax tree, so that every output parses.

A sentence is read, and a Python expression is written as the rules that derive its tree in pre-order (Sun et al. 2020,
"TreeGen: A Tree-Based Transformer Architecture for Code Generation"). Each rule is a node of Python's `ast` with holes:

    p(code | sentence) = Π p(r_t | sentence, r_1 ... r_{t-1})
    p(r_t) = g softmax(W d_t) for a rule, (1 - g) softmax(vᵀ tanh(W1 d_t + W2 n_i)) to copy word i;  g = σ(w · d_t)

Only rules that fit the next hole are offered, and only as many holes are opened as can still be filled. A name that was
never seen is copied. Three ideas stand beside attention. A gate mixes a state with a second source: the letters of a
word or of a rule. A tree convolution reads each node with its parent and grandparent. The decoder's query is the path
from the root to the next hole.

python -m train.applications.treegen
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from minitransformer import Additive, FeedForward, Memory, MultiHeadAttention, Transformer, TransformerConfig, greedy
from minitransformer.masks import padding_mask
from minitransformer.plots import save_figure
from minitransformer.positions import SinusoidalPositions
from minitransformer.text_encoding import pad
from train.applications import english_to_python as language
from train.applications.english_to_python import DEEPEST, LETTERS, MOST_STEPS, SIZE, UNKNOWN, VOCABULARY, Pair
from train.applications.rivals import ApplicationSettings, Contest, Size, mean_loss
from train.applications.writer import BOS, EOS, PAD, Ids, Logits, Writer, WriterConfig, written
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

States = Float[Tensor, "batch time d_model"]


@dataclass(frozen=True)
class TreeGenSettings(ApplicationSettings):
    """TreeGen writes Python for English sentences, beside twins without tree convolution and without gates, and beside
    a sequence-to-sequence Transformer, which has neither a grammar nor copying."""

    settings_file: ClassVar[str] = "treegen.json"

    lr: LearningRate = 3e-3
    d_model: Size = 64


def main(arguments: list[str] | None = None) -> None:
    run_job(TreeGenSettings, "applications.treegen", compare, arguments)


def compare(settings: TreeGenSettings, folder: Path, console: Console) -> None:
    config = TreeGenConfig(settings.d_model)
    rival, pairs = rival_of(config), language.corpus()
    Contest(
        rivals={
            "TreeGen": lambda: TreeGen(config),
            "no tree convolution": lambda: TreeGen(replace(config, tree_convolution=False)),
            "no gates": lambda: TreeGen(replace(config, gates=False)),
            "sequence to sequence": lambda: Transformer(rival),
        },
        data={name: rows_of(split) for name, split in pairs.items()},
        evaluate=lambda model, rows: figures(model, pairs["validation"]) | {"loss": mean_loss(model, rows)},
        best="known names",
        test=lambda model, rows: figures(model, pairs["test"]),
        draw=lambda models, rows, path: draw(models, pairs["test"], path),
        steps=400,
        unit="rules",
    ).run(settings, folder, console)


def rows_of(pairs: Sequence[Pair]) -> dict[str, Tensor]:
    """The sentence and the rules of each pair; and for the rival the words and the tokens."""
    inputs = pad_sequence([torch.tensor(language.sentence(pair.english)) for pair in pairs], batch_first=True)
    return {
        "inputs": inputs,
        "ids": pad([[*language.numbers_of(pair), EOS] for pair in pairs], PAD),
        "source_ids": inputs[..., 0],
        "source_valid": inputs[..., 0] != PAD,
        "target_ids": pad([[BOS, *language.ids(pair.python), EOS] for pair in pairs], PAD),
    }


# The model


class Sublayer(nn.Module):
    """norm(x + layer(x, ...))"""

    def __init__(self, d_model: int, layer: nn.Module):
        super().__init__()
        self.layer, self.norm = layer, nn.LayerNorm(d_model)

    def forward(self, states: States, *inputs: Tensor, **options: Any) -> States:
        return self.norm(states + self.layer(states, *inputs, **options))


class Gate(MultiHeadAttention):
    """α v(y) + (1 - α) v(c) in each head, where α and 1 - α are the softmax of q(y)·k(y) / √d and q(y)·k(c) / √d: the
    attention of each state y to itself and to a second source c. If not `learned`, α is one half."""

    def forward(self, states: States, other: States, *, learned: bool) -> States:  # type: ignore[override]
        sources = rearrange([states, other], "source batch time d_model -> (batch time) source d_model")
        query = sources[:, :1] * learned  # a query of zeros attends to both alike
        return super().forward(query, sources).view(states.shape)


class Convolution(nn.Module):
    """GELU(W [y_i; y_j; y_k] + b), where j and k are the relatives of i: the neighbours of a word, the parent and the
    grandparent of a node. A missing relative is i itself."""

    def __init__(self, d_model: int):
        super().__init__()
        self.project = nn.Linear(3 * d_model, d_model)

    def forward(self, states: States, relatives: Int[Tensor, "batch time 2"]) -> States:
        others = (states.take_along_dim(places, dim=1) for places in relatives.split(1, dim=2))
        return F.gelu(self.project(torch.cat([states, *others], dim=-1)))


@dataclass(frozen=True)
class TreeGenConfig(WriterConfig):
    """Without `gates` or `tree_convolution` the parameters are the same."""

    d_model: int
    num_heads: int = 4
    gates: bool = True
    tree_convolution: bool = True


class TreeGen(Writer):
    """From a sentence to the rules of a tree."""

    config_class = TreeGenConfig

    def __init__(self, config: TreeGenConfig):
        super().__init__()
        self.config = c = config
        d, small = c.d_model, c.d_model // c.num_heads
        self.words, self.positions = nn.Embedding(UNKNOWN + 1, d), SinusoidalPositions(d)
        self.letters, self.spelling = nn.Embedding(128, small), nn.Linear(LETTERS * small, d)
        self.rules, self.depths = nn.Embedding(SIZE + 1, d), nn.Embedding(1 + DEEPEST, d)
        self.holes, self.path = nn.Embedding(SIZE * language.MOST_HOLES, small), nn.Linear(DEEPEST * small, d)
        self.attend_to_words, self.attend_to_rules, self.look_up, self.follow_path, self.look_up_again = (
            Sublayer(d, MultiHeadAttention(d, c.num_heads)) for _ in range(5)
        )
        self.gate_words, self.gate_rules = (Sublayer(d, Gate(d, c.num_heads, bias=False)) for _ in range(2))
        self.convolve_words, self.convolve_tree = (Sublayer(d, Convolution(d)) for _ in range(2))
        self.feed_forward = Sublayer(d, FeedForward(d, 4 * d, activation="gelu"))
        self.choose, self.is_rule, self.copy = nn.Linear(d, SIZE), nn.Linear(d, 1), Additive(d, d, d)

    def read(self, inputs: Int[Tensor, "batch words features"]) -> Memory:
        """The states of the words. `final` has the kind of hole that each rule or word fills and how many it opens,
        (batch, SIZE + words, 2); how it is spelled, (batch, SIZE + words, d_model); and the rules so far, BOS first."""
        words, valid = inputs[..., 0], inputs[..., 0] != PAD
        grammar = torch.tensor(language.CHOICES, device=self.device)
        choices = torch.cat([grammar.expand(len(inputs), -1, -1), inputs[..., 1:]], dim=1)
        spelled = self.spelling(self.letters(choices[..., 2:]).flatten(2))
        place, last = torch.arange(words.shape[1], device=self.device), valid.sum(dim=1)[:, None, None] - 1
        neighbours = torch.stack([place - 1, place + 1], dim=-1).clamp(min=0).minimum(last)
        states = self.words(words.clamp(max=UNKNOWN)) + self.positions(place[None])
        states = self.attend_to_words(states, mask=padding_mask(valid))
        states = self.convolve_words(self.gate_words(states, spelled[:, SIZE:], learned=self.config.gates), neighbours)
        return Memory(states, valid, (choices[..., :2], spelled, words[:, :0]))

    def write(self, before: Ids, state: Memory) -> tuple[Logits, Memory]:
        """The logits of rules, then of copying words; -inf for what does not fit. Every step reads all rules again."""
        assert state.final is not None
        choices, spelled, rules = state.final
        rules = torch.cat([rules, before], dim=1)
        places = torch.tensor([language.places(row) for row in rules.tolist()], device=self.device)
        family, wanted, room, paths = places.split([2, 1, 1, DEEPEST], dim=2)
        sentence = {"memory": state.states, "mask": padding_mask(state.valid)}
        # The tree so far.
        place = torch.arange(rules.shape[1], device=self.device)[None]
        tree = self.rules(rules.clamp(max=SIZE)) + self.depths((paths[:, :-1] != 0).sum(dim=2)) + self.positions(place)
        tree = self.attend_to_rules(tree, causal=True)
        tree = self.gate_rules(tree, spelled.take_along_dim(rules[..., None], dim=1), learned=self.config.gates)
        family = family[:, :-1] if self.config.tree_convolution else place[..., None].expand(len(rules), -1, 2)
        tree = self.convolve_tree(self.look_up(tree, **sentence), family)
        # What fills the next hole.
        states = self.follow_path(self.path(self.holes(paths[:, 1:]).flatten(2)), memory=tree, causal=True)
        states = self.feed_forward(self.look_up_again(states, **sentence))
        scores = self.copy.scores(states, self.copy.keys(state.states), state.valid)
        copied = scores.masked_fill(~state.valid[:, None], -torch.inf).log_softmax(dim=-1)
        chosen, g = self.choose(states).log_softmax(dim=-1), self.is_rule(states)
        log_p = torch.cat([F.logsigmoid(g) + chosen, F.logsigmoid(-g) + copied], dim=-1)
        kinds, holes = choices[:, None].unbind(dim=-1)
        fits = (kinds & wanted[:, 1:] > 0) & (holes <= room[:, 1:])
        log_p = log_p.masked_fill(~fits, -torch.inf)[:, -before.shape[1] :]
        return log_p, state._replace(final=(choices, spelled, rules))


# The rival, the figures and the picture


def rival_of(c: TreeGenConfig) -> TransformerConfig:
    """A Transformer of the same width. At d_model = 64 its feed-forward networks give it as many parameters."""
    sizes = len(VOCABULARY), len(VOCABULARY), c.d_model, c.num_heads, None, round(9.2 * c.d_model), 1, 1
    return TransformerConfig(*sizes, pre_norm=True, dropout=0.0, bos_id=BOS, eos_id=EOS)


def answers(model: TreeGen | Transformer, pairs: Sequence[Pair]) -> list[str | None]:
    """The expressions that a model writes, None for what does not parse."""
    inputs = rows_of(pairs)["inputs"].to(model.device)
    if isinstance(model, TreeGen):
        found = written(model, inputs, MOST_STEPS)
        return [language.text_of(ids, pair.english) for ids, pair in zip(found, pairs, strict=True)]
    words = inputs[..., 0]
    ids = greedy(model.eval(), words, words != PAD, max_new_tokens=2 * MOST_STEPS)
    return [language.normal(" ".join(VOCABULARY[number] for number in row)) for row in ids.tolist()]


def figures(model: TreeGen | Transformer, pairs: Sequence[Pair]) -> dict[str, float]:
    found, half = answers(model, pairs), len(pairs) // 2
    right = [code == pair.python for code, pair in zip(found, pairs, strict=True)]
    exact = {"new names": sum(right[:half]) / half, "known names": sum(right[half:]) / half}
    return exact | {"parse": 1 - found.count(None) / len(found)}


def draw(models: Mapping[str, Any], pairs: Sequence[Pair], path: Path) -> None:
    """The rules that TreeGen writes for the longest sentence with new names, each to the right of its parent; and what
    each rival writes."""
    from matplotlib.figure import Figure

    pair = max(pairs[: len(pairs) // 2], key=lambda pair: len(pair.english))
    [rules] = written(models["TreeGen"], rows_of([pair])["inputs"], MOST_STEPS)
    texts, lines = [*language.RULES, *pair.english.split()], len(rules) + len(models)
    figure = Figure(figsize=(9, 0.3 * lines + 1), layout="constrained")
    axes = figure.add_subplot(xlim=(1, 16), ylim=(lines, -1))
    axes.set_axis_off()
    axes.set_title(f"{pair.english}\nrules (blue) and words copied from the sentence (orange)", fontsize=11)
    for line, (rule, (_, _, _, _, *holes)) in enumerate(zip(rules, language.places([BOS, *rules])[1:], strict=False)):
        box = {"facecolor": "#d0e7ff" if rule < SIZE else "#ffd8a8", "edgecolor": "none", "pad": 2}
        axes.text(sum(hole > 0 for hole in holes), line, texts[rule], va="center", family="monospace", bbox=box)
    for line, (name, model) in enumerate(models.items(), start=len(rules)):
        axes.text(1, line, f"{name}: {answers(model, [pair])[0] or 'does not parse'}", va="center")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
