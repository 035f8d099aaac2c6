"""English to Python along the syntax tree."""

import math
from functools import partial

import pytest
import torch
from helpers_applications import refusal, run
from torch import nn

from minitransformer import Transformer, beam_search, sample
from minitransformer.errors import InputError
from train.applications import english_to_python as language
from train.applications import treegen
from train.applications.english_to_python import SIZE, Pair, derivation, numbers_of, text_of
from train.applications.treegen import BOS, Gate, TreeGen, TreeGenConfig, rival_of, rows_of


@pytest.fixture
def splits(monkeypatch):
    monkeypatch.setattr(language, "corpus", partial(language.corpus, 500, 20, 60))
    return language.corpus()


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = TreeGen(TreeGenConfig(8, 2)).eval()
    nn.init.normal_(model.copy.v)  # it starts at 0
    return model


@pytest.fixture
def rows(splits):
    return rows_of(splits["test"][:8])


def test_a_tiny_run_trains_and_draws_and_whatever_it_writes_parses(splits, tmp_path):
    flags = ["--d-model", "8", "--steps", "8", "--evaluations", "2", "--lr", "0.02"]
    rows = run(treegen, tmp_path / "run", *flags, rivals=2)
    assert [(name, row["test"]["parse"]) for name, row in rows.items()] == [("TreeGen", 1), ("no tree convolution", 1)]


def test_rivals_have_the_same_number_of_parameters():
    config = TreeGenConfig(64)
    plain = TreeGen(TreeGenConfig(64, gates=False, tree_convolution=False))
    assert TreeGen(config).num_parameters() == plain.num_parameters()
    assert Transformer(rival_of(config)).num_parameters() == pytest.approx(plain.num_parameters(), rel=0.01)


def test_a_sentence_has_one_meaning_and_stands_in_one_split_and_new_names_are_new(splits):
    meanings = {}
    for name, pairs in splits.items():
        for pair in pairs:
            assert meanings.setdefault(pair.english, (pair.python, name)) == (pair.python, name)
    train = {word for pair in splits["train"] for word in pair.english.split()}
    known, *unseen = (set(language.NAMES_OF[name].split()) for name in ("known", "validation", "new"))
    assert known <= train and not train & set.union(*unseen)
    assert not {*language.RULES, *language.FIXED} & set.union(known, *unseen)


def test_rules_derive_every_expression_again(splits):
    for pair in [*splits["test"], *splits["train"][:50]]:
        numbers = numbers_of(pair)
        assert len(numbers) <= language.MOST_STEPS
        assert text_of(numbers, pair.english) == pair.python
        assert text_of(numbers[:-1], pair.english) is None
    assert [rule for _, rule in derivation("[a.b if c else d for a in e[:2]]")] == [
        *("[EXPR for NAME in EXPR]", "EXPR if EXPR else EXPR", "EXPR.NAME", "a", "b", "c", "d", "a"),
        *("EXPR[:EXPR]", "e", "2"),
    ]


def test_a_rule_knows_its_parent_and_grandparent_and_the_holes_above_it():
    """a + b.c: the sum is step 1, `a` 2, the attribute 3, `b` 4, `c` 5."""
    found = language.places([BOS, *numbers_of(Pair("a b c", "a + b.c"))])
    root, left, right, value, name = (
        language.RULES.index(rule) * language.MOST_HOLES + place
        for rule, place in (("EXPR", 0), ("EXPR + EXPR", 0), ("EXPR + EXPR", 1), ("EXPR.NAME", 0), ("EXPR.NAME", 1))
    )
    paths = [[], [root], [left, root], [right, root], [value, right, root], [name, right, root], []]
    assert [[hole for hole in holes if hole] for _, _, _, _, *holes in found] == paths
    assert [tuple(row[:2]) for row in found] == [(0, 0), (0, 0), (1, 0), (1, 0), (3, 1), (3, 1), (0, 0)]
    assert [row[2] for row in found] == [language.KINDS[name] for name in ("END", *["EXPR"] * 4, "NAME", "END")]


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("{1, 2}", "'{EXPR, EXPR}' is neither a rule nor a word given"),
        ("a < b < c", "'EXPR < EXPR < EXPR' is neither"),
        ("len(cat)", "'cat' is neither"),
        ("dog[0xff]", "'255' is neither"),
        ("f(", "'f(' is neither"),
    ],
)
def test_an_expression_outside_the_grammar_is_named(python, message):
    with pytest.raises(InputError, match=r"^[^\n]*$") as error:
        numbers_of(Pair("the length of dog", python))
    assert f"{python!r} is outside the grammar: {message}" in str(error.value)


def test_whatever_is_drawn_parses_however_few_steps_there_are(model, splits, monkeypatch):
    pairs = splits["test"][:20]
    for most in (1, 2, 16):
        monkeypatch.setattr(language, "MOST_STEPS", most)
        drawn = sample(model, rows_of(pairs)["inputs"], max_new_tokens=most, temperature=3.0, seed=most)
        texts = [text_of(ids, pair.english) for ids, pair in zip(drawn.tolist(), pairs, strict=True)]
        assert all(texts)
        assert len(set(texts)) > 5


def test_a_step_equals_the_whole_forward_pass_and_rows_do_not_see_each_other(model, rows):
    whole = model(rows["inputs"], rows["ids"])
    logits, state = model.start(rows["inputs"], max_new_tokens=20)
    for step, rules in enumerate(rows["ids"].T[:-1]):
        torch.testing.assert_close(logits, whole[:, step])
        picked, _ = model.step(rules[[3, 3, 0]], state.select(torch.tensor([3, 3, 0])))
        logits, state = model.step(rules, state)
        torch.testing.assert_close(picked, logits[[3, 3, 0]])
    row = int(rows["source_valid"].sum(dim=1).argmin())  # the one with most padding
    words, steps = int(rows["source_valid"][row].sum()), int((rows["ids"][row] != 0).sum())
    assert words < rows["inputs"].shape[1] and steps < rows["ids"].shape[1]
    alone = model(rows["inputs"][row : row + 1, :words], rows["ids"][row : row + 1, :steps])
    torch.testing.assert_close(alone[0], whole[row, :steps, : alone.shape[2]])


def test_probabilities_are_those_of_the_gate_between_rules_and_copies(model, rows):
    """Where they fit: for d_t, what the feed-forward network gives."""
    given = []
    model.feed_forward.register_forward_hook(lambda module, inputs, output: given.append(output))
    logits, state = model(rows["inputs"], rows["ids"]), model.read(rows["inputs"])
    [states] = given
    g, chosen = torch.sigmoid(model.is_rule(states)), model.choose(states).softmax(dim=-1)
    keys = model.copy.project_query(states)[:, :, None] + model.copy.project_key(state.states)[:, None]
    scores = (keys.tanh() @ model.copy.v).masked_fill(~state.valid[:, None], -math.inf)
    expected = torch.cat([g * chosen, (1 - g) * scores.softmax(dim=-1)], dim=-1)
    torch.testing.assert_close(expected.sum(dim=-1), torch.ones_like(g[..., 0]))
    fits = logits > -math.inf
    assert fits[..., :SIZE].any() and fits[..., SIZE:].any()
    torch.testing.assert_close(logits[fits].exp(), expected[fits])


def test_beam_search_decodes(model, rows):
    found = beam_search(model, rows["inputs"], max_new_tokens=6, beam_size=20, n_best=3)
    assert all(math.isfinite(hypothesis.score) for hypotheses in found for hypothesis in hypotheses)


def test_first_and_second_gradients_where_rules_and_padding_are_hidden(model, rows):
    batch = {name: column[:2] for name, column in rows.items()}
    model.double()

    def loss(v):
        logits = torch.func.functional_call(model, {"copy.v": v}, (batch["inputs"], batch["ids"]))
        return logits.log_softmax(dim=-1).gather(2, batch["ids"][..., None])[batch["ids"] != 0].sum()

    v = model.copy.v.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, v) and torch.autograd.gradgradcheck(loss, v)
    model.loss(batch)["ids"].total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.rules.weight.grad is not None and model.letters.weight.grad.abs().sum() > 0


def test_the_gate_is_a_softmax_over_two_sources():
    torch.manual_seed(0)
    gate = Gate(6, 2, bias=False).double()
    states, other = torch.randn(2, 1, 3, 6, dtype=torch.double)
    query, *of_states = gate.project_in(states)[0].split(6, dim=-1)
    _, *of_other = gate.project_in(other)[0].split(6, dim=-1)
    expected = torch.zeros(3, 6, dtype=torch.double)
    for place in range(3):
        for head in (slice(0, 3), slice(3, 6)):
            scores = [query[place, head] @ key[place, head] / math.sqrt(3) for key, _ in (of_states, of_other)]
            shares = torch.stack(scores).softmax(dim=0)
            expected[place, head] = shares[0] * of_states[1][place, head] + shares[1] * of_other[1][place, head]
    torch.testing.assert_close(gate(states, other, learned=True)[0], gate.project_out(expected))
    half = gate.project_out((of_states[1] + of_other[1]) / 2)
    torch.testing.assert_close(gate(states, other, learned=False)[0], half)


def test_a_convolution_reads_the_neighbours_of_words_and_the_family_of_rules_unless_ablated(model):
    calls = []
    for sublayer in (model.convolve_words, model.convolve_tree):
        sublayer.layer.register_forward_hook(lambda *call: calls.append(call))
    batch = rows_of([Pair("the sum of a and b", "a + b")])
    model(batch["inputs"], batch["ids"])
    model.config = TreeGenConfig(8, 2, tree_convolution=False)
    model(batch["inputs"], batch["ids"])
    words, rules, _, ablated = (relatives[0].tolist() for _, (_, relatives), _ in calls)
    assert words == [[0, 1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 5]]
    assert rules == [[0, 0], [0, 0], [1, 0], [1, 0]]  # of BOS, the sum, a, b
    assert ablated == [[0, 0], [1, 1], [2, 2], [3, 3]]
    convolution, (states, relatives), found = calls[1]
    family = [torch.cat([state, *states[0, pair]]) for state, pair in zip(states[0], relatives[0], strict=True)]
    torch.testing.assert_close(found[0], nn.functional.gelu(convolution.project(torch.stack(family))))


def test_only_names_are_copied_and_of_equal_ones_the_first():
    kinds = [kind for _, kind, *_ in language.sentence("class 3 dog dog the")]
    assert kinds == [0, 0, language.KINDS["EXPR or NAME"], 0, 0]


def test_the_rival_reads_new_names_as_one_word():
    batch = rows_of([Pair("zebra is missing", "zebra is None")])
    assert batch["source_ids"][0, 0] == batch["target_ids"][0, 1] == language.UNKNOWN
    assert language.VOCABULARY[batch["source_ids"][0, 1]] == "is"


def test_sizes_that_do_not_divide_are_refused(tmp_path, capsys):
    assert "d-model 30 is not divisible by" in refusal(treegen.main, "--d-model 30", tmp_path / "run", capsys)
