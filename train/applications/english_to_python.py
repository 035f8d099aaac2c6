"""The language of `treegen`: English sentences, the Python expressions that they ask for, and the rules of these.

Sentences and expressions are made from the same templates. A rule is one node of `ast`'s tree with holes for what
stands below it: `EXPR + EXPR`, `EXPR.NAME`, `[EXPR for NAME in EXPR]`. An expression is the rules that fill the holes
in pre-order. Its leaves are words: `len` is a rule too, and `price` is copied from the sentence.
"""

import ast
import keyword
import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from minitransformer.errors import InputError
from train.applications.writer import PAD

LETTERS, DEEPEST = 16, 6
"""How many letters of a word or of a rule and how many holes of a path are read. A word is copied whole."""
MOST_WORDS, MOST_STEPS = 16, 18

# The data. A template's slots are a number N, a list L or a condition C, which are phrases again, and a name V. Fixed
# words begin or divide each phrase, so that a sentence has one meaning.

TEMPLATES = [[line[0], *line[3:].split(" -> ")] for line in """
N: V -> V
N: the V1 of V2 -> V2.V1
N: the length of L | how many items are in L -> len(L)
N: the total of L | all of L added up -> sum(L)
N: the sum of N1 and N2 | adding N1 to N2 -> N1 + N2
N: the difference between N1 and N2 -> N1 - N2
N: the negative of N -> -N
N: the entry at N in L -> L[N]
N: if C then N1 otherwise N2 -> N1 if C else N2
N: calling V on N1 and N2 -> V(N1, N2)
L: V -> V
L: a list of N1 and N2 -> [N1, N2]
L: the ordering of L by V -> sorted(L, key=lambda item: item.V)
L: the V1 of every V2 in L | for every V2 in L its V1 -> [V2.V1 for V2 in L]
L: every V1 in L whose V2 is above N -> [V1 for V1 in L if V1.V2 > N]
L: the first N of L -> L[:N]
L: the words of V -> V.split()
C: N1 is greater than N2 | N1 exceeds N2 -> N1 > N2
C: N is one of L -> N in L
C: V is missing -> V is None
C: both C1 and C2 -> C1 and C2
C: it is false that C -> not C
""".strip().splitlines()]  # fmt: skip
SLOT, PHRASE_SLOT = re.compile(r"\b[NLCV]\d?\b"), re.compile(r"\b[NLC]\d?\b")
NAMES_OF = {
    "known": """price user order city row column table name weight height color shape file folder image pixel book
        author page title chapter lesson teacher student school team player score match ball river lake island bridge
        street house garden window engine wheel driver ticket train station plane ship account product basket""",
    "validation": "animal forest village castle piano singer camera actor movie planet rocket signal",
    "new": "hospital patient doctor nurse battery kitchen recipe flavor sugar lemon parcel courier",
}


class Pair(NamedTuple):
    """`english` is words between spaces; `python` is as `ast.unparse` writes it."""

    english: str
    python: str


def corpus(train: int = 5000, validation: int = 200, test: int = 600) -> dict[str, list[Pair]]:
    """The splits; no sentence is in two. The first halves of "validation" and "test" have names of their own."""
    names = ["new"] * (test // 2) + ["known"] * (test // 2) + ["validation"] * (validation // 2)
    names += ["known"] * (validation // 2 + train)
    rng, found = random.Random(2), dict[str, str]()
    while len(found) < len(names):
        unused = rng.sample(NAMES_OF[names[len(found)]].split(), 12)
        english, python = phrase(rng.choice("NLC"), unused, 3, rng)
        if 0 < len(unused) < 12 and 1 < len(english.split()) <= MOST_WORDS:
            found.setdefault(english, normal(python) or "")
    pairs = [Pair(*each) for each in found.items()]
    return {"test": pairs[:test], "validation": pairs[test:-train], "train": pairs[-train:]}


def phrase(kind: str, names: list[str], depth: int, rng: random.Random) -> Pair:
    """A phrase of this kind, at most `depth` templates deep. Names are taken from the list."""
    if kind == "V":
        name = names.pop() if names else "item"
        return Pair(name, name)
    fitting = [each for each in TEMPLATES if each[0] == kind and (depth > 1 or not PHRASE_SLOT.search(each[2]))]
    _, english, python = rng.choice(fitting)
    slots = {slot: phrase(slot[0], names, depth - 1, rng) for slot in dict.fromkeys(SLOT.findall(python))}
    english = SLOT.sub(lambda found: slots[found[0]].english, rng.choice(english.split(" | ")))
    return Pair(english, f"({SLOT.sub(lambda found: slots[found[0]].python, python)})")


def normal(code: str) -> str | None:
    """The expression as `ast.unparse` writes it; None if it does not parse."""
    try:
        return ast.unparse(ast.parse(code, mode="eval"))
    except (SyntaxError, ValueError):
        return None


# The rules

HOLE = re.compile(r"\b(EXPR|NAME)\b")
"""A hole for an expression or for an identifier."""
FILLED = re.compile(r"⟨(EXPR|NAME): (.*?)⟩")
"""A hole and the code that fills it, in brackets that Python does not have."""


class Cut(ast.NodeTransformer):
    """Puts `FILLED` holes in the place of the expressions below a node."""

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr) or isinstance(node, ast.Slice):
            return self.generic_visit(node)
        kind = "NAME" if isinstance(getattr(node, "ctx", None), ast.Store) else "EXPR"
        return ast.Name(f"⟨{kind}: {ast.unparse(node)}⟩")


def derivation(code: str, kind: str = "EXPR") -> list[tuple[str, str]]:
    """The rules of an expression in pre-order, each after the kind of hole that it fills."""
    node = ast.parse(code, mode="eval").body
    Cut().generic_visit(node)
    if isinstance(node, ast.Attribute):
        node.attr = f"⟨NAME: {node.attr}⟩"
    rule = ast.unparse(node)
    below = [step for hole, inside in FILLED.findall(rule) for step in derivation(inside, hole)]
    return [(kind, FILLED.sub(r"\1", rule)), *below]


STEPS = {step for _, _, python in TEMPLATES for step in derivation(python) if not SLOT.fullmatch(step[1])}
GRAMMAR = [("", ""), ("", "EXPR"), ("END", ""), *sorted(STEPS)]
"""All rules by number, each after the kind of hole that it fills; PAD, BOS and EOS first. BOS opens the hole of the
whole expression, and EOS alone fits after the end. A number from `SIZE` on copies a word of the sentence."""
SIZE, RULES = len(GRAMMAR), [rule for _, rule in GRAMMAR]
KINDS = {"": 0, "EXPR": 1, "NAME": 2, "EXPR or NAME": 3, "END": 4}
"""Kinds of holes as bits. A copied word is an expression or an identifier."""
MOST_HOLES = max(len(HOLE.findall(rule)) for rule in RULES)


def places(rules: Sequence[int]) -> list[list[int]]:
    """The hole that each of the rules fills, BOS being the first, and the next open hole: the steps of its parent and
    grandparent, its kind, how many holes may be opened there, its number, and the numbers of the holes above it."""
    found, still_open = [], list[tuple[int, int, str, list[int]]]()
    for step, rule in enumerate([*rules, PAD]):
        parent, grandparent, kind, path = still_open.pop(0) if still_open else (0, 0, "END", [])
        room = max(0, MOST_STEPS - step - len(still_open))
        found.append([parent, grandparent, KINDS[kind], room, *(path + [0] * DEEPEST)[:DEEPEST]])
        kinds = HOLE.findall(RULES[rule]) if rule < SIZE else []
        still_open[:0] = [(step, parent, kind, [MOST_HOLES * rule + place, *path]) for place, kind in enumerate(kinds)]
    return found


def numbers_of(pair: Pair) -> list[int]:
    """The rules and copied words of an expression. `InputError` for an expression that they do not derive."""
    words = pair.english.split()
    steps = derivation(pair.python) if normal(pair.python) else [("EXPR", pair.python)]
    for step in steps:
        if step not in GRAMMAR and step[1] not in words:
            raise InputError(f"{pair.python!r} is outside the grammar: {step[1]!r} is neither a rule nor a word given")
    return [GRAMMAR.index(step) if step in GRAMMAR else SIZE + words.index(step[1]) for step in steps]


def text_of(numbers: Sequence[int], english: str) -> str | None:
    """The expression in normal form, where each rule takes the place of the first hole; None if it does not parse."""
    texts = [*(rule.replace("EXPR", "(EXPR)") for rule in RULES), *english.split()]
    code = "EXPR"
    for number in numbers:
        code = HOLE.sub(texts[number], code, count=1)
    return None if HOLE.search(code) else normal(code)


# What models read, and what the rival writes

TOKEN = re.compile(r"\w+|\S")
FIXED = {token for line in TEMPLATES for side in line[1:] for token in TOKEN.findall(side) if not SLOT.fullmatch(token)}
VOCABULARY = ["", "", "", *sorted(FIXED), "unknown", *NAMES_OF["known"].split()]
"""Words of English and tokens of Python by number, PAD, BOS and EOS first. New names are `UNKNOWN`."""
UNKNOWN = VOCABULARY.index("unknown")


def ids(text: str) -> list[int]:
    return [VOCABULARY.index(token) if token in VOCABULARY else UNKNOWN for token in TOKEN.findall(text)]


def choice(text: str, kind: str) -> list[int]:
    """What a rule or a word fills, how many holes it opens, and its letters."""
    letters = [min(ord(letter), 127) for letter in HOLE.sub("_", text).ljust(LETTERS, "\0")[:LETTERS]]
    return [KINDS[kind], len(HOLE.findall(text)), *letters]


CHOICES = [choice(rule, kind) for kind, rule in GRAMMAR]


def sentence(english: str) -> list[list[int]]:
    """Each word's number and the `choice` of copying it. Only names are copied; of equal ones the first is."""
    words = english.split()
    names = {word for word in words if word.isidentifier() and not keyword.iskeyword(word)} - FIXED
    copied = {words.index(name): "EXPR or NAME" for name in names}
    return [[*ids(word), *choice(word, copied.get(place, ""))] for place, word in enumerate(words)]
