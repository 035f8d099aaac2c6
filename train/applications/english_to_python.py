"""The language of `treegen`: English sentences, the Python expressions that they ask for, and the trees of these.

The sentences and the expressions are made from the same templates. A tree is the list of rules that derive it from
`ast`'s grammar in pre-order: it is taken apart into rules, grown rule by rule, and written as Python.
"""

import ast
import keyword
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minitransformer.errors import InputError

PAD, UNKNOWN, BOS, EOS, FIRST = range(5)
"""Numbers of words, of rules and of the rival's tokens. `FIRST` is the first that stands for itself."""
LETTERS = " abcdefghijklmnopqrstuvwxyz0123456789_'"
SPELLED, DEEPEST = 12, 10
"""How many letters of a word and how many symbols of a path are read. A word is copied whole."""
MOST_WORDS, MOST_STEPS = 16, 28

# The data. The slots of a template are a number N, a list L, a condition C or a text T, which are phrases again, and a
# name V, an integer I or a quoted word S. Fixed words begin or divide each phrase, so that a sentence has one meaning.

TEMPLATES = [
    (line[0], english, line.split(" -> ")[1])
    for line in """
N: V -> V
N: I -> I
N: the V1 of V2 -> V2.V1
N: the length of L | how many items are in L -> len(L)
N: the total of L | all of L added up -> sum(L)
N: the largest of L | the greatest value in L -> max(L)
N: the sum of N1 and N2 | adding N1 to N2 -> N1 + N2
N: the product of N1 and N2 | multiplying N1 by N2 -> N1 * N2
N: the difference between N1 and N2 -> N1 - N2
N: subtracting N1 from N2 -> N2 - N1
N: the quotient of N1 and N2 -> N1 / N2
N: the negative of N -> -N
N: item I of L | the entry at I in L -> L[I]
N: if C then N1 otherwise N2 -> N1 if C else N2
N: calling V on N1 and N2 -> V(N1, N2)
N: the result of V1 for N with V2 set to I -> V1(N, V2=I)
N: the number that T spells -> int(T)
L: V -> V
L: a list of N1 and N2 -> [N1, N2]
L: the ordering of L by V -> sorted(L, key=lambda item: item.V)
L: the V1 of every V2 in L | for every V2 in L its V1 -> [V2.V1 for V2 in L]
L: every V1 in L whose V2 is above N -> [V1 for V1 in L if V1.V2 > N]
L: the first I of L -> L[:I]
L: all but the first I of L -> L[I:]
L: the words of T -> T.split()
L: a table from the V1 of every V2 in L to its V3 -> {V2.V1: V2.V3 for V2 in L}
C: N1 is greater than N2 | N1 exceeds N2 -> N1 > N2
C: N1 equals N2 | N1 is the same as N2 -> N1 == N2
C: N is one of L -> N in L
C: V is missing -> V is None
C: both C1 and C2 -> C1 and C2
C: either C1 or C2 -> C1 or C2
C: it is false that C -> not C
C: T begins with S -> T.startswith(S)
T: V -> V
T: the capitals of T -> T.upper()
T: the items of L linked by S -> S.join(L)
T: the text of N -> str(N)
""".strip().splitlines()
    for english in line[3:].split(" -> ")[0].split(" | ")
]
SLOT, PHRASE_SLOT = re.compile(r"\b[NLCTVIS]\d?\b"), re.compile(r"\b[NLCT]\d?\b")
NAMES = """
price user order city count row column table name weight height color shape file folder image pixel book author page
title chapter lesson teacher student grade school team player score match ball river mountain lake island bridge street
house garden window engine wheel driver ticket train station plane pilot ship captain account customer invoice product
shelf basket market
animal forest village castle piano singer camera actor movie planet rocket signal
hospital patient doctor nurse battery kitchen recipe flavor sugar lemon parcel courier
""".strip().splitlines()
NAMES_OF = {"known": " ".join(NAMES[:-2]).split(), "validation": NAMES[-2].split(), "new": NAMES[-1].split()}


class Pair(NamedTuple):
    """`english` is words between spaces; `python` is as `ast.unparse` writes it."""

    english: str
    python: str


def corpus(count: int) -> dict[str, list[Pair]]:
    """The splits; no sentence is in two of them. The names of "new names" and half of validation's are not in train."""
    random_, seen = random.Random(1), set[str]()

    def split(size: int, names: str) -> list[Pair]:
        pairs: list[Pair] = []
        while len(pairs) < size:
            left = random_.sample(NAMES_OF[names], 12)
            english, python = phrase(random_.choice("NLCT"), left, 3, random_)
            if english not in seen and left and 1 < len(english.split()) <= MOST_WORDS:
                seen.add(english)
                pairs.append(Pair(english, normal(python) or ""))
        return pairs

    part = min(300, count // 16)
    test = {"new names": split(part, "new"), "known names": split(part, "known")}
    return {
        **test,
        "validation": split(part // 3, "validation") + split(part // 3, "known"),
        "train": split(count, "known"),
    }


def phrase(kind: str, names: list[str], depth: int, random_: random.Random) -> Pair:
    """A phrase of this kind, at most `depth` templates deep. Names are taken from the list."""
    if kind in "VIS":
        word = str(random_.randrange(100)) if kind == "I" else names.pop() if names else "item"
        return Pair(f"'{word}'", f"'{word}'") if kind == "S" else Pair(word, word)
    fitting = [each for each in TEMPLATES if each[0] == kind and (depth > 1 or not PHRASE_SLOT.search(each[2]))]
    _, english, python = random_.choice(fitting)
    slots = {slot: phrase(slot[0], names, depth - 1, random_) for slot in dict.fromkeys(SLOT.findall(python))}
    english = SLOT.sub(lambda found: slots[found[0]].english, english)
    return Pair(english, SLOT.sub(lambda found: slots[found[0]].python, PHRASE_SLOT.sub(r"(\g<0>)", python)))


def normal(code: str) -> str | None:
    """The expression as `ast.unparse` writes it; None if it does not parse."""
    try:
        return ast.unparse(ast.parse(code, mode="eval"))
    except (SyntaxError, ValueError):
        return None


# The grammar. A symbol is a field of a node class, "Call.args", or an item of it, "Call.args[]". What fills a symbol is
# a rule: a node class, a number of items, or a word.

ROOT = "Expression.body"
WORDS = {"Name.id": 1, "Attribute.attr": 1, "keyword.arg": 1, "arg.arg": 1, "Constant.value": 2}
"""The symbols that words fill: 1 for identifiers, 2 for constants."""
CONSTANT = re.compile(r"0|[1-9]\d*|'\w*'")


@cache
def symbols_below(symbol: str, right: str) -> list[str]:
    """What a rule leaves open: the fields of a node class, or the items of a list."""
    if symbol in WORDS:
        return []
    if right.endswith(" items"):
        return [f"{symbol}[]"] * int(right.split()[0])
    return [f"{right}.{field}" for field in getattr(getattr(ast, right, None), "_fields", ())]


@cache
def derived(code: str) -> list[tuple[str, str]]:
    """The symbols of an expression's tree, each with what fills it, in pre-order."""
    try:
        return filled(ROOT, ast.parse(code, mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{code!r} is not a Python expression: {error}") from None


def filled(symbol: str, node: Any) -> list[tuple[str, str]]:
    if WORDS.get(symbol) == 2:
        right = ast.unparse(ast.Constant(node))
    elif isinstance(node, ast.AST):
        right = "Load" if symbol.endswith(".ctx") else type(node).__name__
    else:
        right = f"{len(node)} items" if isinstance(node, list) else str(node)
    below = node if isinstance(node, list) else [getattr(node, field) for field in getattr(node, "_fields", ())]
    steps = [(symbol, right)]
    for each, child in zip(symbols_below(symbol, right), below, strict=True):
        steps += filled(each, child)
    return steps


class Node(NamedTuple):
    """A place in a tree: its symbol and those above it, and the step that made it, counted from 1."""

    path: tuple[str, ...] = ()
    parent: int = 0


class Tree(NamedTuple):
    """A tree that grows: its open nodes, the next one last; the rules so far; the nodes that they filled, the next."""

    open: tuple[Node, ...] = (Node((ROOT,)),)
    rules: tuple[int, ...] = ()
    nodes: tuple[Node, ...] = (Node((ROOT,)),)


class Language:
    """The rules of each symbol, and the known words of sentences. A symbol that has only one rule takes no step.

    A rule is numbered by what it puts, whatever the symbol; a number from `size` on copies a word of the sentence.
    """

    def __init__(self, choices: Mapping[str, list[str]], words: Sequence[str]):
        self.choices, self.words = dict(choices), list(words)
        self.rules = [*dict.fromkeys(right for rights in choices.values() for right in rights)]
        self.symbol_ids = {symbol: number for number, symbol in enumerate(choices, start=1)}
        self.rule_ids = {right: number for number, right in enumerate(self.rules, start=FIRST)}
        self.word_ids = {word: number for number, word in enumerate(words, start=FIRST)}
        # Those that take a step.
        self.open_symbols = {symbol for symbol in choices if symbol in WORDS or len(choices[symbol]) > 1}
        self.size, self.least, before = FIRST + len(self.rules), dict.fromkeys(choices, torch.inf), dict[str, float]()
        while self.least != before:  # the fewest steps that fill each symbol and all below it
            before = self.least
            sums = {s: [sum(before[each] for each in symbols_below(s, r)) for r in choices[s]] for s in choices}
            self.least = {symbol: (symbol in self.open_symbols) + min(sums[symbol], default=0.0) for symbol in choices}

    @classmethod
    def of(cls, splits: Mapping[str, Sequence[Pair]]) -> "Language":
        """The rules of all splits: a grammar is known beforehand. Words come from "train" alone: a word of code is a
        rule if a sentence lacks it, and a word of a sentence that is ever copied is known by its letters alone."""
        steps = [(*step, pair.english.split()) for pair in splits["train"] for step in derived(pair.python)]
        given = {right for symbol, right, words in steps if symbol in WORDS and right not in words}
        copied = {right for symbol, right, _ in steps if symbol in WORDS} - given
        rights: dict[str, set[str]] = defaultdict(set)
        for symbol, right in (step for pairs in splits.values() for pair in pairs for step in derived(pair.python)):
            rights[symbol] |= {right} & given if symbol in WORDS else {right}
        known = {word for pair in splits["train"] for word in pair.english.split()} - copied
        return cls({symbol: sorted(rights[symbol]) for symbol in rights}, sorted(known))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Language) and vars(self) == vars(other)

    def grown(self, tree: Tree, right: str, number: int) -> Tree:
        """The tree with its next node filled; a finished tree stays finished."""
        rules = (*tree.rules, number)
        left = (*tree.open[:-1], *self._opened(tree.open[-1].path, right, len(rules))) if tree.open else ()
        return Tree(left, rules, (*tree.nodes, left[-1] if left else Node()))

    def _opened(self, path: tuple[str, ...], right: str, step: int) -> list[Node]:
        """The nodes below a rule that take a step, the first one last."""
        nodes: list[Node] = []
        for symbol in reversed(symbols_below(path[0], right)):
            if symbol in self.open_symbols:
                nodes.append(Node((symbol, *path), step))
            else:
                nodes += self._opened((symbol, *path), self.choices[symbol][0], step)
        return nodes

    def tree(self, pair: Pair) -> Tree:
        """The whole tree. `InputError` for an expression that these rules and words do not derive."""
        words, tree = pair.english.split(), Tree()
        for symbol, right in derived(pair.python):
            is_rule = right in self.choices.get(symbol, ())
            if not is_rule and (symbol not in WORDS or right not in words):
                raise InputError(f"{pair.python!r} is outside the grammar: {symbol} cannot be {right}")
            if symbol in self.open_symbols:
                tree = self.grown(tree, right, self.rule_ids[right] if is_rule else self.size + words.index(right))
        return tree

    def text(self, rules: Sequence[int], english: str) -> str:
        """The Python of these rules and copied words, which derive a whole tree."""
        words = english.split()
        rights = [words[n - self.size] if n >= self.size else self.rules[n - FIRST] for n in rules if n >= FIRST]
        return ast.unparse(self._built(ROOT, iter(rights)))

    def _built(self, symbol: str, rights: Iterator[str]) -> Any:
        right = next(rights) if symbol in self.open_symbols else self.choices[symbol][0]
        if WORDS.get(symbol) == 1:
            return right
        below = [self._built(each, rights) for each in symbols_below(symbol, right)]
        if right.endswith(" items"):
            return below
        return getattr(ast, right)(*below) if hasattr(ast, right) else ast.literal_eval(right)

    def sentence(self, english: str) -> Int[Tensor, "words features"]:
        """Of each word its number, what it may be copied as, and its letters. Of equal words the first is copied."""
        words, rows = english.split(), []
        for place, word in enumerate(words):
            kind = 1 if word.isidentifier() and not keyword.iskeyword(word) else 2 if CONSTANT.fullmatch(word) else 0
            letters = [1 + LETTERS.find(letter) for letter in word.ljust(SPELLED)[:SPELLED]]
            rows.append([self.word_ids.get(word, UNKNOWN), 0 if word in words[:place] else kind, *letters])
        return torch.tensor(rows)

    def places(self, trees: Sequence[Tree]) -> dict[str, Tensor]:
        """The rules of trees, of their nodes the parents, and the paths as numbers, the node itself first."""
        numbers = [[[self.symbol_ids[s] for s in node.path[:DEEPEST]] for node in tree.nodes] for tree in trees]
        columns = {
            "rules": [torch.tensor([*tree.rules, PAD]) for tree in trees],
            "parents": [torch.tensor([node.parent for node in tree.nodes]) for tree in trees],
            "paths": [torch.tensor([path + [0] * (DEEPEST - len(path)) for path in paths]) for paths in numbers],
        }
        return {name: pad_sequence(tensors, batch_first=True) for name, tensors in columns.items()}

    def rows(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        sentences = pad_sequence([self.sentence(pair.english) for pair in pairs], batch_first=True)
        return {"sentence": sentences, **self.places([self.tree(pair) for pair in pairs])}
