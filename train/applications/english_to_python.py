"""The language of `treegen`: English sentences, the Python expressions that they ask for, and the rules of these.

Sentences and expressions are made from the same templates. A rule is one node of `ast`'s tree with holes for what
stands below it: `EXPR0 + EXPR1`, `EXPR0.NAME1`, `[EXPR0 for NAME1 in EXPR2]`. An expression is the rules that fill the
holes in pre-order. Its leaves are words: `len` is a rule too, and `price` is copied from the sentence.
"""

import ast
import keyword
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minitransformer.errors import InputError
from minitransformer.text_encoding import pad

PAD, UNKNOWN, BOS, EOS, FIRST = range(5)
"""Numbers of words, of rules and of the rival's tokens. `FIRST` is the first that stands for itself."""
LETTERS, DEEPEST = 16, 6
"""How many letters of a word or of a rule and how many holes of a path are read. A word is copied whole."""
MOST_WORDS, MOST_STEPS = 16, 18

# The data. A template's slots are a number N, a list L, a condition C or a text T, which are phrases again, and a name
# V or an integer I. Fixed words begin or divide each phrase, so that a sentence has one meaning.

TEMPLATES = [
    (kind, english, python)
    for kind, sides in (line.split(": ", 1) for line in """
N: V -> V
N: I -> I
N: the V1 of V2 -> V2.V1
N: the length of L | how many items are in L -> len(L)
N: the total of L | all of L added up -> sum(L)
N: the sum of N1 and N2 | adding N1 to N2 -> N1 + N2
N: the difference between N1 and N2 -> N1 - N2
N: subtracting N1 from N2 -> N2 - N1
N: the negative of N -> -N
N: item I of L | the entry at I in L -> L[I]
N: if C then N1 otherwise N2 -> N1 if C else N2
N: calling V on N1 and N2 -> V(N1, N2)
L: V -> V
L: a list of N1 and N2 -> [N1, N2]
L: the ordering of L by V -> sorted(L, key=lambda item: item.V)
L: the V1 of every V2 in L | for every V2 in L its V1 -> [V2.V1 for V2 in L]
L: every V1 in L whose V2 is above N -> [V1 for V1 in L if V1.V2 > N]
L: the first I of L -> L[:I]
L: the words of T -> T.split()
C: N1 is greater than N2 | N1 exceeds N2 -> N1 > N2
C: N is one of L -> N in L
C: V is missing -> V is None
C: both C1 and C2 -> C1 and C2
C: it is false that C -> not C
T: V -> V
T: the capitals of T -> T.upper()
T: the text of N -> str(N)
""".strip().splitlines())
    for englishes, python in [sides.split(" -> ")]
    for english in englishes.split(" | ")
]  # fmt: skip
SLOT, PHRASE_SLOT = re.compile(r"\b[NLCTVI]\d?\b"), re.compile(r"\b[NLCT]\d?\b")
NAMES_OF = {
    "known": """price user order city count row column table name weight height color shape file folder image pixel book
        author page title chapter lesson teacher student grade school team player score match ball river mountain lake
        island bridge street house garden window engine wheel driver ticket train station plane pilot ship captain
        account customer invoice product shelf basket market""",
    "validation": "animal forest village castle piano singer camera actor movie planet rocket signal",
    "new": "hospital patient doctor nurse battery kitchen recipe flavor sugar lemon parcel courier",
}


class Pair(NamedTuple):
    """`english` is words between spaces; `python` is as `ast.unparse` writes it."""

    english: str
    python: str


def corpus(count: int) -> dict[str, list[Pair]]:
    """The splits; no sentence is in two. The first halves of "validation" and "test" have names of their own."""
    rng, seen = random.Random(2), set[str]()

    def split(size: int, names: str) -> list[Pair]:
        pairs: list[Pair] = []
        while len(pairs) < size:
            unused = rng.sample(NAMES_OF[names].split(), 12)
            english, python = phrase(rng.choice("NLCT"), unused, 3, rng)
            if english not in seen and 0 < len(unused) < 12 and 1 < len(english.split()) <= MOST_WORDS:
                seen.add(english)
                pairs.append(Pair(english, normal(python) or ""))
        return pairs

    part = min(300, count // 16)
    splits = {"test": split(part, "new") + split(part, "known")}
    splits["validation"] = split(part // 3, "validation") + split(part // 3, "known")
    return splits | {"train": split(count, "known")}


def phrase(kind: str, names: list[str], depth: int, rng: random.Random) -> Pair:
    """A phrase of this kind, at most `depth` templates deep. Names are taken from the list."""
    if kind in "VI":
        word = str(rng.randrange(100)) if kind == "I" else names.pop() if names else "item"
        return Pair(word, word)
    fitting = [each for each in TEMPLATES if each[0] == kind and (depth > 1 or not PHRASE_SLOT.search(each[2]))]
    _, english, python = rng.choice(fitting)
    slots = {slot: phrase(slot[0], names, depth - 1, rng) for slot in dict.fromkeys(SLOT.findall(python))}
    english = SLOT.sub(lambda found: slots[found[0]].english, english)
    return Pair(english, SLOT.sub(lambda found: slots[found[0]].python, PHRASE_SLOT.sub(r"(\g<0>)", python)))


def normal(code: str) -> str | None:
    """The expression as `ast.unparse` writes it; None if it does not parse."""
    try:
        return ast.unparse(ast.parse(code, mode="eval"))
    except (SyntaxError, ValueError):
        return None


# The rules

HOLE = re.compile(r"\b(EXPR|NAME)(\d)\b")
"""A hole for an expression or for an identifier, and its place among the holes of its rule."""


def derivation(code: str) -> list[tuple[str, str]]:
    """The rules of an expression in pre-order, each with the kind of hole that it fills."""
    try:
        return steps_of("EXPR", ast.parse(code, mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{code!r} is not a Python expression: {error}") from None


def steps_of(kind: str, part: ast.expr | str) -> list[tuple[str, str]]:
    """A leaf; or the rule of a node, with a hole for each expression or identifier below it, and the steps of these."""
    if isinstance(part, str | ast.Name | ast.Constant):
        return [(kind, part if isinstance(part, str) else ast.unparse(part))]
    below: list[tuple[str, Any]] = []

    def with_holes(field: str, value: Any) -> Any:
        if isinstance(value, list):
            return [with_holes(field, each) for each in value]
        is_name = field == "attr" or (field == "target" and isinstance(value, ast.Name))
        if is_name or (isinstance(value, ast.expr) and not isinstance(value, ast.Slice) and value is not part):
            below.append(("NAME" if is_name else "EXPR", value))
            hole = f"{below[-1][0]}{len(below) - 1}"
            return hole if field == "attr" else ast.Name(hole)
        if not isinstance(value, ast.AST):
            return value
        return type(value)(**{name: with_holes(name, each) for name, each in ast.iter_fields(value)})

    rule = ast.unparse(with_holes("", part))
    return [(kind, rule), *(step for each in below for step in steps_of(*each))]


def numbered(texts: Iterable[str]) -> dict[str, int]:
    return {text: number for number, text in enumerate(texts, start=FIRST)}


STEPS = sorted({step for _, _, python in TEMPLATES for step in derivation(python) if not SLOT.fullmatch(step[1])})
RULES = [rule for _, rule in STEPS]
"""By their numbers, from `FIRST` on. A number from `SIZE` on copies a word of the sentence."""
SIZE = FIRST + len(RULES)
RULE_IDS = numbered(RULES)
KNOWN_WORDS = sorted({word for _, english, _ in TEMPLATES for word in english.split() if not SLOT.fullmatch(word)})
WORD_IDS = numbered(KNOWN_WORDS)
NO_HOLE, EXPR, NAME = range(3)
"""Kinds of holes; a word may be copied into no hole, into `EXPR` alone, or into both kinds (`NAME`)."""
KINDS = {"EXPR": EXPR, "NAME": NAME}
ROOT = 1
"""The number of the hole that the whole expression fills. The holes of all rules are numbered after it."""
HOLE_KINDS, HOLES = [NO_HOLE, EXPR], dict[int, list[int]]()
for _rule, _number in RULE_IDS.items():
    _kinds = sorted((int(place), kind) for kind, place in HOLE.findall(_rule))
    HOLES[_number] = [len(HOLE_KINDS) + place for place, _ in _kinds]
    HOLE_KINDS += [KINDS[kind] for _, kind in _kinds]


class Node(NamedTuple):
    """A hole of a tree: its number and those above it, and the step that made it, counted from 1. After the end: ()."""

    path: tuple[int, ...] = ()
    parent: int = 0


def nodes_of(rules: Sequence[int]) -> list[Node]:
    """The holes that these rules fill, then those that are open, the next one first."""
    filled, still_open = list[Node](), [Node((ROOT,))]
    for step, rule in enumerate(rules, start=1):
        filled.append(still_open.pop() if still_open else Node())
        still_open += [Node((hole, *filled[-1].path), step) for hole in reversed(HOLES.get(rule, ()))]
    return filled + still_open[::-1]


def numbers_of(pair: Pair) -> list[int]:
    """The rules and copied words of an expression. `InputError` for an expression that they do not derive."""
    words, numbers = pair.english.split(), []
    for kind, rule in derivation(pair.python):
        if (kind, rule) in STEPS:
            numbers.append(RULE_IDS[rule])
        elif rule in words:
            numbers.append(SIZE + words.index(rule))
        else:
            raise InputError(f"{pair.python!r} is outside the grammar: {rule!r} is neither a rule nor a word given")
    return numbers


def text_of(numbers: Sequence[int], english: str) -> str | None:
    """The expression in normal form; None if it does not parse."""
    words = english.split()
    texts = iter([words[n - SIZE] if n >= SIZE else RULES[n - FIRST] for n in numbers if n >= FIRST])
    return normal(joined(texts))


def joined(texts: Iterator[str]) -> str:
    """The first rule, with its holes filled by the rules after it."""
    rule = next(texts, "")
    parts = [joined(texts) for _ in HOLE.findall(rule)]
    return HOLE.sub(lambda hole: f"({parts[int(hole[2])]})" if hole[1] == "EXPR" else parts[int(hole[2])], rule)


# Numbers for the model


def letters(text: str) -> list[int]:
    return [min(ord(letter), 127) for letter in HOLE.sub("_", text).ljust(LETTERS, "\0")[:LETTERS]]


TABLES = {
    "letters_of_rules": [letters(rule) for rule in [""] * FIRST + RULES],
    "holes_of_rules": [len(HOLES.get(number, ())) for number in range(SIZE)],
    "kinds_of_rules": [NO_HOLE if number == EOS else -1 for number in range(FIRST)]
    + [KINDS[kind] for kind, _ in STEPS],
    "kinds_of_holes": HOLE_KINDS,
}
"""Of rules the letters, how many holes they have, and the kind of hole that they fill, and of holes the kind."""


def sentence(english: str) -> Tensor:
    """Of each word (W, 2 + LETTERS) its number, the hole that it may fill, and its letters. Of equal words the first is
    copied, and no word that is a rule is."""
    words, rows = english.split(), []
    for place, word in enumerate(words):
        is_copied = word not in words[:place] and word not in RULE_IDS and not keyword.iskeyword(word)
        kind = NO_HOLE if not is_copied else NAME if word.isidentifier() else EXPR
        rows.append([WORD_IDS.get(word, UNKNOWN), kind, *letters(word)])
    return torch.tensor(rows)


def places(derivations: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Of derivations, the rules, and of the holes that they fill and the next one the parents and the paths."""
    trees = [[*nodes_of(rules), Node()][: len(rules) + 1] for rules in derivations]
    paths = [[(*node.path, *[0] * DEEPEST)[:DEEPEST] for node in nodes] for nodes in trees]
    return {
        "rules": pad([[*rules, PAD] for rules in derivations], PAD),
        "parents": pad([[node.parent for node in nodes] for nodes in trees], 0),
        "paths": pad_sequence([torch.tensor(path) for path in paths], batch_first=True),
    }


def rows_of(pairs: Sequence[Pair]) -> dict[str, Tensor]:
    sentences = pad_sequence([sentence(pair.english) for pair in pairs], batch_first=True)
    return {"sentence": sentences, **places([numbers_of(pair) for pair in pairs])}
