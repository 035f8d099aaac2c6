"""TreeGen: a Transformer writes a program rule by rule along its syntax tree, so that every output parses.

A sentence is read, and a Python expression is written as the rules that derive its tree in pre-order (Sun et al. 2020,
"TreeGen: A Tree-Based Transformer Architecture for Code Generation"). The grammar is that of Python's `ast` module:

    p(code | sentence) = Π p(r_t | sentence, r_1 ... r_{t-1})
    p(r_t) = g softmax(W d_t) for a rule, (1 - g) softmax(vᵀ tanh(W1 d_t + W2 n_i)) to copy word i;  g = σ(w · d_t)

Only rules that fit the open node are offered, and only those after which the tree can still be finished in time. A
name that was never seen is copied. Three ideas stand beside attention. A gate mixes a state with a second source: the
letters of a word, the content of a rule. A tree convolution reads each node with its parent and grandparent. The
decoder's query is the path from the root to the open node.

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
from torch.nn.utils.rnn import pad_sequence

from minitransformer import Additive, FeedForward, MultiHeadAttention, Transformer, TransformerConfig, greedy
from minitransformer.blocks import Residual, Stack
from minitransformer.checks import Count
from minitransformer.errors import InputError
from minitransformer.masks import padding_mask
from minitransformer.models.base import Config, Loss, Model, require_rows_of, target_loss
from minitransformer.plots import save_figure
from minitransformer.positions import SinusoidalPositions
from train.applications.english_to_python import (
    BOS,
    DEEPEST,
    EOS,
    FIRST,
    LETTERS,
    MOST_STEPS,
    PAD,
    ROOT,
    SPELLED,
    UNKNOWN,
    WORDS,
    Language,
    Pair,
    Tree,
    corpus,
    normal,
    symbols_below,
)
from train.applications.rivals import ApplicationSettings, Contest, Split, mean_loss
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
    sentences: Count = 5000
    """How many sentences to train on."""
    d_model: Count = 64
    num_heads: Count = 4
    num_layers: Count = 1
    """Blocks in each of the three stacks: the readers of words and of rules, and the decoder."""

    def validate(self) -> None:
        super().validate()
        if self.sentences < 500:
            raise InputError(f"--sentences {self.sentences}: at least 500, so that every rule is seen")
        TreeGenConfig({}, [], self.d_model, self.num_heads, self.num_layers)


def main(arguments: list[str] | None = None) -> None:
    run_job(TreeGenSettings, "applications.treegen", compare, arguments)


def compare(settings: TreeGenSettings, folder: Path, console: Console) -> None:
    pairs = corpus(settings.sentences)
    language, tokens = Language.of(pairs), Tokens(pairs["train"])
    sizes = settings.d_model, settings.num_heads, settings.num_layers
    config = TreeGenConfig(language.choices, language.words, *sizes)
    num_new = len(pairs["new names"])
    splits = {
        "train": pairs["train"],
        "validation": pairs["validation"],
        "test": pairs["new names"] + pairs["known names"],
    }
    every = [pair for split in splits.values() for pair in split]
    numbers = torch.arange(len(every)).split([len(split) for split in splits.values()])
    data = {
        name: {"number": number, **language.rows(split), **tokens.rows(split)}
        for (name, split), number in zip(splits.items(), numbers, strict=True)
    }

    def answers(model: "TreeGen | Transformer", rows: Split) -> list[str | None]:
        given = {name: tensor.to(model.device) for name, tensor in rows.items()}
        if isinstance(model, Transformer):
            return tokens.written(model.eval(), given)
        ids = greedy(model.eval(), given["sentence"], max_new_tokens=MOST_STEPS).tolist()
        sentences = [every[number].english for number in rows["number"].tolist()]
        return [normal(language.text(*each)) for each in zip(ids, sentences, strict=True)]

    def exact(found: Sequence[str | None], numbers: Tensor) -> float:
        return sum(code == every[n].python for code, n in zip(found, numbers.tolist(), strict=True)) / len(found)

    def evaluate(model: "TreeGen | Transformer", rows: Split) -> dict[str, float]:
        return {"exact match": exact(answers(model, rows), rows["number"]), "loss": mean_loss(model, rows)}

    def test(model: "TreeGen | Transformer", rows: Split) -> dict[str, float]:
        found, numbers = answers(model, rows), rows["number"]
        return {
            "new names": exact(found[:num_new], numbers[:num_new]),
            "known names": exact(found[num_new:], numbers[num_new:]),
            "parse": 1 - found.count(None) / len(found),
        }

    def show(models: Mapping[str, "TreeGen | Transformer"], rows: Split, path: Path) -> None:
        """The first new sentence of about 18 rules."""
        of_size = [abs(18 - int((rules != PAD).sum())) for rules in rows["rules"][:num_new]]
        n = of_size.index(min(of_size))
        row = {name: column[n : n + 1] for name, column in rows.items()}
        found = {name: answers(model, row)[0] for name, model in models.items()}
        draw(found, language, splits["test"][n], path)

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
    """`choices` and `words` are a `Language`. Without `gates` or `tree_convolution` the parameters are the same."""

    choices: dict[str, list[str]]
    words: list[str]
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
            raise InputError(f"d_model={self.d_model} is not divisible by 4: letters and symbols have a quarter of it")


class Reading(NamedTuple):
    """A sentence that was read; `kinds` are what its words may be copied as."""

    states: Float[Tensor, "batch words d_model"]
    valid: Bool[Tensor, "batch words"]
    spelled: Float[Tensor, "batch words d_model"]
    kinds: Int[Tensor, "batch words"]


class Writing(NamedTuple):
    """What decoding carries from step to step. Trees are small: every step reads all rules so far."""

    reading: Reading
    trees: list[Tree]
    most_steps: int

    def select(self, rows: Tensor) -> "Writing":
        reading = Reading(*(tensor[rows] for tensor in self.reading))
        return self._replace(reading=reading, trees=[self.trees[row] for row in rows.tolist()])


class TreeGen(Model):
    """From a sentence to the rules of a tree."""

    config_class = TreeGenConfig
    steps_below: Tensor
    contents: Tensor
    kinds: Tensor

    def __init__(self, config: TreeGenConfig):
        super().__init__()
        self.config = c = config
        self.language = language = Language(c.choices, c.words)
        d, small = c.d_model, c.d_model // 4

        def stack(**sublayers: Callable[[], nn.Module]) -> Stack:
            return Stack([Block(d, sublayers) for _ in range(c.num_layers)], nn.LayerNorm(d))

        attention, gate = partial(MultiHeadAttention, d, c.num_heads), partial(Gate, d, c.num_heads, learned=c.gates)
        convolution = partial(TreeConvolution, d, along_tree=c.tree_convolution)
        feed_forward = partial(FeedForward, d, 4 * d, activation="gelu")
        self.word_stack = stack(attention=attention, gate=gate, convolutions=partial(WordConvolutions, d))
        self.rule_stack = stack(attention=attention, gate=gate, sentence=attention, convolution=convolution)
        self.path_stack = stack(tree=attention, sentence=attention, feed_forward=feed_forward)
        self.words, self.positions = nn.Embedding(FIRST + len(c.words), d), SinusoidalPositions(d)
        self.letters, self.spelling = nn.Embedding(1 + len(LETTERS), small), nn.Linear(SPELLED * small, d)
        self.symbols, self.path = nn.Embedding(1 + len(c.choices), small), nn.Linear(DEEPEST * small, d)
        self.rules, self.content = nn.Embedding(language.size, d), nn.Linear(small, d)
        self.depths = nn.Embedding(1 + DEEPEST, d)
        self.choose, self.is_rule, self.copy = nn.Linear(d, language.size), nn.Linear(d, 1), Additive(d, d, d)
        for name, table in tables(language).items():
            self.register_buffer(name, table, persistent=False)

    def read(self, sentence: Sentences) -> Reading:
        words, kinds, valid = sentence[..., 0], sentence[..., 1], sentence[..., 0] != PAD
        spelled = self.spelling(self.letters(sentence[..., 2:]).flatten(2))
        inputs = {
            "attention": {"mask": padding_mask(valid)},
            "gate": {"other": spelled},
            "convolutions": {"valid": valid},
        }
        return Reading(self.word_stack(self._placed(self.words(words)), **inputs), valid, spelled, kinds)

    def log_p(self, reading: Reading, rules: Steps, parents: Steps, paths: Paths) -> Logits:
        """log p of every rule and of copying every word, whether they fit or not, at each step given those before."""
        rules, parents = F.pad(rules[:, :-1], (1, 0), value=BOS), F.pad(parents[:, :-1], (1, 0))
        depths = F.pad((paths != 0).sum(dim=2)[:, :-1], (1, 0))
        is_copy, row = rules >= self.language.size, torch.arange(len(rules), device=rules.device)[:, None]
        letters = reading.spelled[row, (rules - self.language.size).clamp(min=0)]
        rules = rules.masked_fill(is_copy, UNKNOWN)
        contents = letters.where(is_copy[..., None], self.content(self.contents @ self.symbols.weight)[rules])
        sentence = {"memory": reading.states, "mask": padding_mask(reading.valid)}
        inputs = {"attention": {"causal": True}, "gate": {"other": contents}, "convolution": {"parents": parents}}
        states = self.rule_stack(self._placed(self.rules(rules) + self.depths(depths)), sentence=sentence, **inputs)
        states = self.path_stack(
            self.path(self.symbols(paths).flatten(2)), tree={"memory": states, "causal": True}, sentence=sentence
        )
        scores = self.copy.scores(states, self.copy.keys(reading.states), reading.valid)
        words = scores.masked_fill(~reading.valid[:, None], -torch.inf).log_softmax(dim=-1)
        g = self.is_rule(states)
        return torch.cat([F.logsigmoid(g) + self.choose(states).log_softmax(dim=-1), F.logsigmoid(-g) + words], dim=-1)

    def fitting(
        self, reading: Reading, symbols: Steps, steps_left: Tensor | float
    ) -> Bool[Tensor, "batch time choices"]:
        """Which rules and words fit the open nodes, and leave no more steps to do than these."""
        rules = (self.steps_below[symbols] <= steps_left) & self.steps_below[symbols].isfinite()
        return torch.cat([rules, reading.kinds[:, None] == self.kinds[symbols][..., None]], dim=-1)

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
        if max_new_tokens < (least := self.language.least[ROOT]):
            raise InputError(f"max_new_tokens={max_new_tokens}: the smallest tree takes {least:.0f} rules")
        return self._next(Writing(self.read(inputs), [Tree()] * len(inputs), max_new_tokens))

    @torch.no_grad()
    def step(self, ids: Int[Tensor, " batch"], state: Writing) -> tuple[Tensor, Writing]:
        require_rows_of(state.reading.states, ids=ids)
        grown, names = self.language.grown, dict(enumerate(self.language.rules, start=FIRST))
        trees = [grown(tree, names.get(n, ""), n) for tree, n in zip(state.trees, ids.tolist(), strict=True)]
        return self._next(state._replace(trees=trees))

    def _next(self, state: Writing) -> tuple[Float[Tensor, "batch choices"], Writing]:
        """The logits of the next rule of each tree."""
        places = {name: tensor.to(self.device) for name, tensor in self.language.places(state.trees).items()}
        others = [sum(self.language.least[node.path[0]] for node in tree.open[:-1]) for tree in state.trees]
        left = state.most_steps - places["rules"].shape[1] - torch.tensor(others, device=self.device)
        fitting = self.fitting(state.reading, places["paths"][:, -1:, 0], left[:, None, None])[:, 0]
        # A beam may be filled up with rules that do not fit, at probability 0. Such a tree may end anywhere.
        fitting[:, EOS] |= ~fitting.any(dim=1)
        return self.log_p(state.reading, **places)[:, -1].masked_fill(~fitting, -torch.inf), state

    def _placed(self, states: States) -> States:
        return states + self.positions(torch.arange(states.shape[1], device=states.device)[None])


def tables(language: Language) -> dict[str, Tensor]:
    """By symbol and rule, how many steps are left to do below, infinitely many where the rule does not fit; by rule and
    symbol, what a rule leaves open; by symbol, the kind of words that fill it, or -1."""
    steps = torch.full((1 + len(language.choices), language.size), torch.inf)
    steps[0, EOS] = 0
    contents = torch.zeros(language.size, len(steps))
    for symbol, number in language.symbol_ids.items():
        for right in language.choices[symbol]:
            rule, below = language.rule_ids[right], symbols_below(symbol, right)
            steps[number, rule] = sum(language.least[each] for each in below)
            contents[rule, [language.symbol_ids[each] for each in below]] = 1
    kinds = torch.tensor([-1, *(WORDS.get(symbol, -1) for symbol in language.choices)])
    return {"steps_below": steps, "contents": contents, "kinds": kinds}


# The rival, the loss and the picture


class Tokens:
    """Words of English and tokens of Python as numbers, for the rival."""

    def __init__(self, pairs: Sequence[Pair]):
        self.words = sorted({word for pair in pairs for word in pair.english.split()})
        self.tokens = sorted({token for pair in pairs for token in tokens_of(pair.python)})

    def rows(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        words, tokens = ({name: n for n, name in enumerate(names, start=FIRST)} for names in (self.words, self.tokens))
        sources = [[words.get(word, UNKNOWN) for word in pair.english.split()] for pair in pairs]
        targets = [[BOS, *(tokens.get(each, UNKNOWN) for each in tokens_of(pair.python)), EOS] for pair in pairs]
        source_ids, target_ids = (
            pad_sequence([*map(torch.tensor, ids)], batch_first=True) for ids in (sources, targets)
        )
        return {"source_ids": source_ids, "source_valid": source_ids != PAD, "target_ids": target_ids}

    def rival(self, c: TreeGenConfig) -> Transformer:
        """A Transformer of the same width and depth. The width of its feed-forward networks gives it the same number of
        parameters, as nearly as it can."""

        def model(d_ff: int) -> Transformer:
            sizes = FIRST + len(self.words), FIRST + len(self.tokens), c.d_model, c.num_heads, None, d_ff
            return Transformer(TransformerConfig(*sizes, c.num_layers, c.num_layers, pre_norm=True, dropout=0.0))

        with torch.device("meta"):
            one, two, wanted = (each.num_parameters() for each in (model(1), model(2), TreeGen(c)))
        return model(max(1, round(1 + (wanted - one) / (two - one))))

    def written(self, model: Transformer, rows: Mapping[str, Tensor]) -> list[str | None]:
        """An unknown token is written as the name `unknown`."""
        names = dict(enumerate(self.tokens, start=FIRST)) | {UNKNOWN: "unknown"}
        ids = greedy(model, rows["source_ids"], rows["source_valid"], max_new_tokens=2 * MOST_STEPS).tolist()
        return [normal(" ".join(names.get(number, "") for number in row)) for row in ids]


def tokens_of(code: str) -> list[str]:
    return re.findall(r"'\w*'|\w+|[<>=!]+|[^\w\s]", code)


def draw(answers: Mapping[str, str | None], language: Language, pair: Pair, path: Path) -> None:
    """The tree that TreeGen wrote for a sentence, and what each rival wrote."""
    from matplotlib.figure import Figure

    words, tree = pair.english.split(), language.tree(Pair(pair.english, str(answers["TreeGen"])))
    parents = [node.parent for node in tree.nodes[:-1]]
    below = [
        [step for step, parent in enumerate(parents, start=1) if parent == above] for above in range(len(tree.nodes))
    ]
    leaves = [step for step, steps in enumerate(below) if not steps]
    level, place = [0.0] * len(below), [0.0] * len(below)
    for step, parent in enumerate(parents, start=1):
        level[step] = level[parent] - 1
    for step in reversed(range(1, len(below))):
        under = [place[each] for each in below[step]]
        place[step] = sum(under) / len(under) if under else leaves.index(step)
    floor, stretch = min(level) - 1.5, (len(leaves) - 1) / max(1, len(words) - 1)
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes, table = figure.subplots(2, 1, height_ratios=[5, 1])
    for column, text in enumerate(words):
        axes.text(column * stretch, floor, text, ha="center", va="top", rotation=30, fontsize=11)
    for step, rule in enumerate(tree.rules, start=1):
        if above := parents[step - 1]:
            axes.plot([place[above], place[step]], [level[above], level[step]], color="#888888", zorder=1)
        copied = rule >= language.size
        label = words[rule - language.size] if copied else language.rules[rule - FIRST]
        if copied:
            word = (rule - language.size) * stretch
            axes.plot([place[step], word], [level[step], floor + 0.1], ":", color="#e76f00", zorder=1)
        box = {"boxstyle": "round", "facecolor": "#ffd8a8" if copied else "#d0e7ff", "edgecolor": "none"}
        axes.text(place[step], level[step], f"{step}: {label}", ha="center", va="center", fontsize=9, bbox=box)
    axes.set_title("TreeGen writes a tree rule by rule (blue), and copies names that it has never seen (orange)")
    for row, (name, found) in enumerate(answers.items()):
        table.text(0, -row, f"{name}:", fontsize=10)
        colour = "black" if found == pair.python else "#c1121f"
        table.text(0.2, -row, found or "does not parse", family="monospace", fontsize=10, color=colour)
    table.set_ylim(-len(answers), 1)
    for each in (axes, table):
        each.set_axis_off()
    save_figure(figure, path)


if __name__ == "__main__":
    main()
