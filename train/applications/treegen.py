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

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from rich.console import Console
from torch import Tensor, nn

from minitransformer import Additive, FeedForward, MultiHeadAttention, Transformer, TransformerConfig, greedy
from minitransformer.blocks import Residual, Stack
from minitransformer.checks import Count
from minitransformer.errors import InputError
from minitransformer.masks import padding_mask
from minitransformer.models.base import Loss, Model, require_rows_of, target_loss
from minitransformer.models.config import Config
from minitransformer.plots import save_figure
from minitransformer.positions import SinusoidalPositions
from minitransformer.text_encoding import pad
from train.applications import english_to_python as language
from train.applications.english_to_python import BOS, EOS, FIRST, PAD, UNKNOWN, Pair
from train.applications.rivals import ApplicationSettings, Contest, Many, Size, Split, mean_loss, parameters_of
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

States = Float[Tensor, "batch time d_model"]
Steps = Int[Tensor, "batch time"]
Paths = Int[Tensor, "batch time path"]
Sentences = Int[Tensor, "batch words features"]
Logits = Float[Tensor, "batch time choices"]


@dataclass(frozen=True)
class TreeGenSettings(ApplicationSettings):
    """TreeGen writes Python for English sentences, beside twins without tree convolution and without gates, and beside
    a sequence-to-sequence Transformer, which has neither a grammar nor copying."""

    settings_file: ClassVar[str] = "treegen.json"

    lr: LearningRate = 3e-3
    batch_size: Count = 32
    evaluations: Count = 3
    sentences: Many = 5000
    """How many sentences to train on."""
    d_model: Size = 64
    num_heads: Size = 4
    num_layers: Size = 1
    """Blocks in each of the three stacks: the readers of words and of rules, and the decoder."""

    def validate(self) -> None:
        super().validate()
        if self.sentences < 500:
            raise InputError(f"--sentences {self.sentences}: at least 500, so that every rule is seen")
        TreeGenConfig(self.d_model, self.num_heads, self.num_layers)


def main(arguments: list[str] | None = None) -> None:
    run_job(TreeGenSettings, "applications.treegen", compare, arguments)


def compare(settings: TreeGenSettings, folder: Path, console: Console) -> None:
    pairs = language.corpus(settings.sentences)
    config, tokens = TreeGenConfig(settings.d_model, settings.num_heads, settings.num_layers), Tokens(pairs["train"])
    data = {name: language.rows_of(split) | tokens.rows(split) for name, split in pairs.items()}

    def answers(model: "TreeGen | Transformer", name: str, rows: slice = slice(None)) -> list[str | None]:
        """The normal form of the expressions that a model writes, None for what does not parse."""
        given = {column: tensor[rows].to(model.device) for column, tensor in data[name].items()}
        if isinstance(model, Transformer):
            return tokens.written(model.eval(), given)
        found = greedy(model.eval(), given["sentence"], max_new_tokens=language.MOST_STEPS).tolist()
        return [language.text_of(rules, pair.english) for rules, pair in zip(found, pairs[name][rows], strict=True)]

    def right(found: Sequence[str | None], name: str) -> Tensor:
        return torch.tensor([code == pair.python for code, pair in zip(found, pairs[name], strict=True)]).float()

    def evaluate(model: "TreeGen | Transformer", rows: Split) -> dict[str, float]:
        share = right(answers(model, "validation"), "validation").mean().item()
        return {"exact match": share, "loss": mean_loss(model, rows)}

    def test(model: "TreeGen | Transformer", rows: Split) -> dict[str, float]:
        found = answers(model, "test")
        new, known = (half.mean().item() for half in right(found, "test").chunk(2))
        return {"new names": new, "known names": known, "parse": 1 - found.count(None) / len(found)}

    def show(models: Mapping[str, "TreeGen | Transformer"], rows: Split, path: Path) -> None:
        """The first sentence with new names and twelve rules or more."""
        place = int(((rows["rules"] != PAD).sum(dim=1) >= 12).int().argmax())
        found = {name: answers(model, "test", slice(place, place + 1))[0] for name, model in models.items()}
        draw(found, pairs["test"][place], path)

    Contest(
        rivals={
            "TreeGen": lambda: TreeGen(config),
            "no tree convolution": lambda: TreeGen(replace(config, tree_convolution=False)),
            "no gates": lambda: TreeGen(replace(config, gates=False)),
            "sequence to sequence": lambda: tokens.rival(config),
        },
        data=data,
        evaluate=evaluate,
        best="exact match",
        test=test,
        draw=show,
        steps=700,
        unit="rules",
    ).run(settings, folder, console)


# The model


class Block(nn.Module):
    """Sublayers one after another, each with a norm before it and a residual connection around both."""

    def __init__(self, d_model: int, sublayers: Mapping[str, Callable[[], nn.Module]]):
        super().__init__()
        self.sublayers = nn.ModuleDict({name: make() for name, make in sublayers.items()})
        self.residuals = nn.ModuleList(Residual(nn.LayerNorm(d_model), pre_norm=True, dropout=0.0) for _ in sublayers)

    def forward(self, states: States, **inputs: Mapping[str, Any]) -> States:
        """`inputs` are what each sublayer reads beside the states, by its name."""
        for residual, (name, sublayer) in zip(self.residuals, self.sublayers.items(), strict=True):
            states = residual(states, sublayer, **inputs.get(name, {}))
        return states


class Gate(nn.Module):
    """α v(y) + (1 - α) v(c) in each head, where α and 1 - α are the softmax of q(y)·k(y) / √d and q(y)·k(c) / √d.

    Not `learned`: α is one half.
    """

    def __init__(self, d_model: int, num_heads: int, *, learned: bool):
        super().__init__()
        self.num_heads, self.learned = num_heads, learned
        self.project, self.project_other = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, 2 * d_model)

    def forward(self, states: States, other: States) -> States:
        parts = (*self.project(states).chunk(3, dim=-1), *self.project_other(other).chunk(2, dim=-1))
        split = "batch time (heads dim) -> batch time heads dim"
        query, key, value, other_key, other_value = (rearrange(part, split, heads=self.num_heads) for part in parts)
        # A softmax of two scores is the sigmoid of their difference.
        share = torch.sigmoid((query * (key - other_key)).sum(dim=-1, keepdim=True) * query.shape[-1] ** -0.5)
        share = share if self.learned else torch.full_like(share, 0.5)
        return (share * value + (1 - share) * other_value).flatten(2)


class TreeConvolution(nn.Module):
    """GELU(W [y; y of the parent; y of the grandparent] + b). The root is its own parent.

    Not `along_tree`: every node is its own parent.
    """

    def __init__(self, d_model: int, *, along_tree: bool):
        super().__init__()
        self.along_tree, self.project = along_tree, nn.Linear(3 * d_model, d_model)

    def forward(self, states: States, parents: Steps) -> States:
        """`parents` are positions among the states."""
        if not self.along_tree:
            parents = torch.arange(states.shape[1], device=states.device).expand_as(parents)
        row = torch.arange(len(states), device=states.device)[:, None]
        family = states, states[row, parents], states[row, parents.gather(1, parents)]
        return F.gelu(self.project(torch.cat(family, dim=-1)))


class WordConvolutions(nn.Module):
    """Two separable convolutions over three words, with a GELU between. Padding counts as zeros."""

    def __init__(self, d_model: int):
        super().__init__()
        self.depthwise = nn.ModuleList(nn.Conv1d(d_model, d_model, 3, padding=1, groups=d_model) for _ in range(2))
        self.pointwise = nn.ModuleList(nn.Linear(d_model, d_model) for _ in range(2))

    def forward(self, states: States, valid: Bool[Tensor, "batch time"]) -> States:
        for number, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise, strict=True)):
            states = pointwise(depthwise((F.gelu(states) if number else states).mT * valid[:, None]).mT)
        return states


@dataclass(frozen=True)
class TreeGenConfig(Config):
    """Without `gates` or `tree_convolution` the parameters are the same."""

    d_model: int
    num_heads: int
    num_layers: int
    gates: bool = True
    tree_convolution: bool = True
    pad_id: int = PAD
    eos_id: int = EOS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("d_model", "num_heads", "num_layers")
        self.require_multiple("d_model", "num_heads")
        if self.d_model % 4:
            raise InputError(f"d_model={self.d_model} is not divisible by 4: letters and holes have a quarter of it")


class Reading(NamedTuple):
    """A sentence that was read; `kinds` are what its words may be copied as."""

    states: Float[Tensor, "batch words d_model"]
    valid: Bool[Tensor, "batch words"]
    spelled: Float[Tensor, "batch words d_model"]
    kinds: Int[Tensor, "batch words"]


class Writing(NamedTuple):
    """What decoding carries from step to step. Trees are small: every step reads all rules so far."""

    reading: Reading
    rules: Int[Tensor, "batch time"]
    most_steps: int

    def select(self, rows: Tensor) -> "Writing":
        return Writing(Reading(*(tensor[rows] for tensor in self.reading)), self.rules[rows], self.most_steps)


class TreeGen(Model):
    """From a sentence to the rules of a tree."""

    config_class = TreeGenConfig
    letters_of_rules: Tensor
    holes_of_rules: Tensor
    kinds_of_rules: Tensor
    kinds_of_holes: Tensor

    def __init__(self, config: TreeGenConfig):
        super().__init__()
        self.config = c = config
        d, small = c.d_model, c.d_model // 4

        def stack(**sublayers: Callable[[], nn.Module]) -> Stack:
            return Stack([Block(d, sublayers) for _ in range(c.num_layers)], nn.LayerNorm(d))

        attention, gate = partial(MultiHeadAttention, d, c.num_heads), partial(Gate, d, c.num_heads, learned=c.gates)
        convolution = partial(TreeConvolution, d, along_tree=c.tree_convolution)
        feed_forward = partial(FeedForward, d, 4 * d, activation="gelu")
        self.word_stack = stack(attention=attention, gate=gate, convolutions=partial(WordConvolutions, d))
        self.rule_stack = stack(attention=attention, gate=gate, sentence=attention, convolution=convolution)
        self.path_stack = stack(tree=attention, sentence=attention, feed_forward=feed_forward)
        self.words, self.positions = nn.Embedding(FIRST + len(language.KNOWN_WORDS), d), SinusoidalPositions(d)
        self.letters, self.spelling = nn.Embedding(128, small), nn.Linear(language.LETTERS * small, d)
        self.holes, self.path = nn.Embedding(len(language.HOLE_KINDS), small), nn.Linear(language.DEEPEST * small, d)
        self.rules, self.depths = nn.Embedding(language.SIZE, d), nn.Embedding(1 + language.DEEPEST, d)
        self.choose, self.is_rule, self.copy = nn.Linear(d, language.SIZE), nn.Linear(d, 1), Additive(d, d, d)
        for name, table in language.TABLES.items():
            self.register_buffer(name, torch.tensor(table), persistent=False)

    def read(self, sentence: Sentences) -> Reading:
        words, kinds, valid = sentence[..., 0], sentence[..., 1], sentence[..., 0] != PAD
        spelled = self.spelled(sentence[..., 2:])
        inputs = {
            "attention": {"mask": padding_mask(valid)},
            "gate": {"other": spelled},
            "convolutions": {"valid": valid},
        }
        return Reading(self.word_stack(self._placed(self.words(words)), **inputs), valid, spelled, kinds)

    def spelled(self, letters: Int[Tensor, "*batch letters"]) -> Float[Tensor, "*batch d_model"]:
        return self.spelling(self.letters(letters).flatten(-2))

    def log_p(self, reading: Reading, rules: Steps, parents: Steps, paths: Paths) -> Logits:
        """log p of every rule and of copying every word, whether they fit or not, at each step given those before."""
        rules, parents = F.pad(rules[:, :-1], (1, 0), value=BOS), F.pad(parents[:, :-1], (1, 0))
        depths = F.pad((paths != 0).sum(dim=2)[:, :-1], (1, 0))
        of_rules = self.spelled(self.letters_of_rules).expand(len(rules), -1, -1)
        row = torch.arange(len(rules), device=rules.device)[:, None]
        contents = torch.cat([of_rules, reading.spelled], dim=1)[row, rules]
        known = self.rules(rules.masked_fill(rules >= language.SIZE, UNKNOWN))
        sentence = {"memory": reading.states, "mask": padding_mask(reading.valid)}
        inputs = {"attention": {"causal": True}, "gate": {"other": contents}, "convolution": {"parents": parents}}
        states = self.rule_stack(self._placed(known + self.depths(depths)), sentence=sentence, **inputs)
        states = self.path_stack(
            self.path(self.holes(paths).flatten(2)), tree={"memory": states, "causal": True}, sentence=sentence
        )
        scores = self.copy.scores(states, self.copy.keys(reading.states), reading.valid)
        words = scores.masked_fill(~reading.valid[:, None], -torch.inf).log_softmax(dim=-1)
        g = self.is_rule(states)
        return torch.cat([F.logsigmoid(g) + self.choose(states).log_softmax(dim=-1), F.logsigmoid(-g) + words], dim=-1)

    def fitting(self, reading: Reading, holes: Steps, room: Tensor | float) -> Bool[Tensor, "batch time choices"]:
        """Which rules and words fit the holes, where there is `room` for so many new holes; after the end, EOS."""
        kinds = self.kinds_of_holes[holes][..., None]
        rules = (self.kinds_of_rules == kinds) & (self.holes_of_rules <= room)
        words = (kinds != language.NO_HOLE) & (reading.kinds[:, None] >= kinds)
        return torch.cat([rules, words], dim=-1)

    def forward(self, sentence: Sentences, rules: Steps, parents: Steps, paths: Paths) -> Logits:
        """The logits of each step, given the rules before it; -inf for what does not fit."""
        reading = self.read(sentence)
        fitting = self.fitting(reading, paths[..., 0], torch.inf)
        return self.log_p(reading, rules, parents, paths).masked_fill(~fitting, -torch.inf)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        is_rule = batch["rules"] != PAD
        logits = self(*(batch[name] for name in ("sentence", "rules", "parents", "paths")))[is_rule]
        return {"rules": Loss(target_loss(logits, batch["rules"][is_rule]), is_rule.sum())}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"rules": (batch["rules"] != PAD).sum()}

    @torch.no_grad()
    def start(self, inputs: Sentences, valid: Tensor | None = None, *, max_new_tokens: int) -> tuple[Tensor, Writing]:
        return self._next(Writing(self.read(inputs), inputs.new_empty(len(inputs), 0), max_new_tokens))

    @torch.no_grad()
    def step(self, ids: Int[Tensor, " batch"], state: Writing) -> tuple[Tensor, Writing]:
        require_rows_of(state.reading.states, ids=ids)
        return self._next(state._replace(rules=torch.cat([state.rules, ids[:, None]], dim=1)))

    def _next(self, state: Writing) -> tuple[Float[Tensor, "batch choices"], Writing]:
        """The logits of the next rule of each tree."""
        rules = state.rules.tolist()
        inputs = {name: tensor.to(self.device) for name, tensor in language.places(rules).items()}
        # A hole takes a step at least.
        room = [state.most_steps - len(language.nodes_of(row)) for row in rules]
        next_holes, rooms = inputs["paths"][:, -1:, 0], torch.tensor(room, device=self.device)[:, None, None]
        fitting = self.fitting(state.reading, next_holes, rooms)[:, 0]
        return self.log_p(state.reading, **inputs)[:, -1].masked_fill(~fitting, -torch.inf), state

    def _placed(self, states: States) -> States:
        return states + self.positions(torch.arange(states.shape[1], device=states.device)[None])


# The rival, the loss and the picture


class Tokens:
    """Words of English and tokens of Python as numbers, for the rival."""

    def __init__(self, pairs: Sequence[Pair]):
        self.words = language.numbered(sorted({word for pair in pairs for word in pair.english.split()}))
        self.tokens = language.numbered(sorted({token for pair in pairs for token in tokens_of(pair.python)}))

    def rows(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        sources = [[self.words.get(word, UNKNOWN) for word in pair.english.split()] for pair in pairs]
        targets = [[BOS, *(self.tokens.get(each, UNKNOWN) for each in tokens_of(pair.python)), EOS] for pair in pairs]
        source_ids, target_ids = pad(sources, PAD), pad(targets, PAD)
        return {"source_ids": source_ids, "source_valid": source_ids != PAD, "target_ids": target_ids}

    def rival(self, c: TreeGenConfig) -> Transformer:
        """A Transformer of the same width and depth. The width of its feed-forward networks gives it the same number of
        parameters, as nearly as it can."""

        def model(d_ff: int) -> Transformer:
            sizes = FIRST + len(self.words), FIRST + len(self.tokens), c.d_model, c.num_heads, None, d_ff
            return Transformer(TransformerConfig(*sizes, c.num_layers, c.num_layers, pre_norm=True, dropout=0.0))

        one, two = (parameters_of(partial(model, d_ff)) for d_ff in (1, 2))
        wider = (parameters_of(lambda: TreeGen(c)) - one) / (two - one)
        return model(max(1, 1 + round(wider)))

    def written(self, model: Transformer, rows: Mapping[str, Tensor]) -> list[str | None]:
        """An unknown token is written as the name `unknown`."""
        names = {number: token for token, number in self.tokens.items()} | {UNKNOWN: "unknown"}
        ids = greedy(model, rows["source_ids"], rows["source_valid"], max_new_tokens=2 * language.MOST_STEPS).tolist()
        return [language.normal(" ".join(names.get(number, "") for number in row)) for row in ids]


def tokens_of(code: str) -> list[str]:
    return re.findall(r"'\w*'|\w+|[<>=!]+|[^\w\s]", code)


def draw(answers: Mapping[str, str | None], pair: Pair, path: Path) -> None:
    """The tree that TreeGen wrote for a sentence, a rule a line and below its parent; and what each rival wrote."""
    from matplotlib.figure import Figure

    words, rules = pair.english.split(), language.numbers_of(pair._replace(python=answers["TreeGen"] or "None"))
    nodes = language.nodes_of(rules)
    figure = Figure(figsize=(9, 0.3 * (len(rules) + len(answers)) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 10), ylim=(len(rules) + len(answers) + 1, -1))
    axes.set_title(
        f"{pair.english}\nTreeGen writes rules (blue) and copies words of the sentence (orange)", fontsize=11
    )
    for step, (node, rule) in enumerate(zip(nodes, rules, strict=True), start=1):
        copied, across = rule >= language.SIZE, 0.5 * len(node.path)
        label = words[rule - language.SIZE] if copied else language.RULES[rule - FIRST]
        if node.parent:
            above = (0.5 * len(nodes[node.parent - 1].path) + 0.1, node.parent - 0.7)
            axes.plot([above[0], above[0], across - 0.05], [above[1], step - 1, step - 1], color="#888888", zorder=0)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "#ffd8a8" if copied else "#d0e7ff", "edgecolor": "none"}
        axes.text(across, step - 1, f"{step}: {label}", va="center", family="monospace", fontsize=9, bbox=box)
    for line, (name, found) in enumerate(answers.items(), start=len(rules) + 1):
        colour = "black" if found == pair.python else "#c1121f"
        axes.text(0.5, line, f"{name}:", va="center", fontsize=9)
        axes.text(3.5, line, found or "does not parse", va="center", family="monospace", fontsize=9, color=colour)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
