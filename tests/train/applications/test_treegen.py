"""English to Python along the syntax tree."""

import math

import pytest
import torch
from helpers_applications import refusal, run
from torch import nn

from minitransformer import beam_search, sample
from minitransformer.errors import InputError
from train.applications import english_to_python as language
from train.applications import treegen
from train.applications.english_to_python import Pair, corpus, derivation, numbers_of, text_of
from train.applications.treegen import Gate, Tokens, TreeConvolution, TreeGen, TreeGenConfig, WordConvolutions


@pytest.fixture(scope="module")
def splits():
    return corpus(500)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = TreeGen(TreeGenConfig(8, 2, 2)).eval()
    nn.init.normal_(model.copy.v)  # it starts at 0
    return model


@pytest.fixture(scope="module")
def rows(splits):
    return language.rows_of(splits["test"][:8])


def test_a_tiny_run_trains_and_draws_and_whatever_it_writes_parses(tmp_path):
    flags = ["--sentences", "500", "--d-model", "8", "--num-heads", "2", "--steps", "8", "--evaluations", "2"]
    rows = run(treegen, tmp_path / "run", *flags, "--lr", "0.02", rivals=2)
    assert [(name, row["test"]["parse"]) for name, row in rows.items()] == [("TreeGen", 1), ("no tree convolution", 1)]


def test_rivals_have_the_same_number_of_parameters(splits):
    config = TreeGenConfig(32, 2, 1)
    rival, plain = Tokens(splits["train"]).rival(config), TreeGen(TreeGenConfig(32, 2, 1, False, False))
    assert TreeGen(config).num_parameters() == plain.num_parameters()
    assert rival.num_parameters() == pytest.approx(plain.num_parameters(), rel=0.01)


def test_a_sentence_has_one_meaning_and_stands_in_one_split_and_new_names_are_new(splits):
    meanings = {}
    for name, pairs in splits.items():
        for pair in pairs:
            assert meanings.setdefault(pair.english, (pair.python, name)) == (pair.python, name)
    train = {word for pair in splits["train"] for word in pair.english.split()}
    known, *unseen = (set(language.NAMES_OF[name].split()) for name in ("known", "validation", "new"))
    assert known <= train and not train & set.union(*unseen)
    assert not {*language.RULES, *language.KNOWN_WORDS} & set.union(known, *unseen)


def test_rules_derive_every_expression_again(splits):
    for pair in [*splits["test"], *splits["train"][:50]]:
        numbers = numbers_of(pair)
        assert len(numbers) <= language.MOST_STEPS
        assert text_of(numbers, pair.english) == pair.python
    assert [rule for _, rule in derivation("[a.b for a in c[:2]]")] == [
        *("[EXPR0 for NAME1 in EXPR2]", "EXPR0.NAME1", "a", "b", "a", "EXPR0[:EXPR1]", "c", "2")
    ]


def test_a_node_knows_the_holes_above_it_and_the_step_that_made_it():
    """a + b.c: the sum is step 1, `a` 2, the attribute 3, `b` 4, `c` 5."""
    nodes = language.nodes_of(numbers_of(Pair("a b c", "a + b.c")))
    (left, right), (value, name) = (
        language.HOLES[language.RULE_IDS[rule]] for rule in ("EXPR0 + EXPR1", "EXPR0.NAME1")
    )
    paths = [(), (left,), (right,), (value, right), (name, right)]
    assert [node.path for node in nodes] == [(*path, language.ROOT) for path in paths]
    assert [node.parent for node in nodes] == [0, 1, 1, 3, 3]
    assert [language.HOLE_KINDS[node.path[0]] == language.NAME for node in nodes] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("{1, 2}", "'{1, 2}' is outside the grammar: '{EXPR0, EXPR1}' is neither a rule nor a word given"),
        ("a < b < c", "'a < b < c' is outside the grammar: 'EXPR0 < EXPR1 < EXPR2' is neither"),
        ("len(cat)", "'len(cat)' is outside the grammar: 'cat' is neither"),
        ("dog[0xff]", "'dog[0xff]' is outside the grammar: '255' is neither"),
        ("f(", "'f(' is not a Python expression: "),
    ],
)
def test_an_expression_outside_the_grammar_is_named(python, message):
    with pytest.raises(InputError, match=r"^[^\n]*$") as error:
        numbers_of(Pair("the length of dog", python))
    assert message in str(error.value)


def test_whatever_is_drawn_parses_however_few_steps_there_are(model, splits):
    pairs = splits["test"][:20]
    sentences = language.rows_of(pairs)["sentence"]
    for most in (1, 2, 16):
        drawn = sample(model, sentences, max_new_tokens=most, temperature=3.0, seed=most)
        texts = [text_of(ids, pair.english) for ids, pair in zip(drawn.tolist(), pairs, strict=True)]
        assert all(texts)
        assert len(set(texts)) > 5


def test_a_step_equals_the_whole_forward_pass_and_rows_do_not_see_each_other(model, rows):
    names = ("sentence", "rules", "parents", "paths")
    whole = model(*(rows[name] for name in names))
    logits, state = model.start(rows["sentence"], max_new_tokens=10**6)
    for step, rules in enumerate(rows["rules"].T[:-1]):
        open_ = rules != 0
        torch.testing.assert_close(logits[open_], whole[open_, step])
        if step == 5:
            picked, _ = model.step(rules[[3, 3, 0]], state.select(torch.tensor([3, 3, 0])))
        logits, state = model.step(rules, state)
        if step == 5:
            torch.testing.assert_close(picked, logits[[3, 3, 0]])
    row = int((rows["sentence"][:, :, 0] != 0).sum(dim=1).argmin())  # the one with most padding
    words, steps = int((rows["sentence"][row, :, 0] != 0).sum()), int((rows["rules"][row] != 0).sum())
    assert words < rows["sentence"].shape[1] and steps < rows["rules"].shape[1]
    one = slice(row, row + 1)
    alone = model(rows["sentence"][one, :words], *(rows[name][one, :steps] for name in names[1:]))
    torch.testing.assert_close(alone, whole[one, :steps, : alone.shape[2]])


def test_probabilities_are_those_of_the_gate_between_rules_and_copies(model, rows):
    log_p = model.log_p(model.read(rows["sentence"]), rows["rules"], rows["parents"], rows["paths"])
    shares = log_p.exp()[..., : language.SIZE].sum(dim=-1)
    torch.testing.assert_close(log_p.exp().sum(dim=-1), torch.ones_like(shares))
    assert shares.std() > 0
    is_padding = rows["sentence"][..., 0] == 0
    assert (log_p[..., language.SIZE :].exp().amax(dim=1)[is_padding] == 0).all()


def test_beam_search_decodes(model, rows):
    found = beam_search(model, rows["sentence"], max_new_tokens=6, beam_size=20, n_best=3)
    assert all(math.isfinite(hypothesis.score) for hypotheses in found for hypothesis in hypotheses)


def test_first_and_second_gradients_where_rules_and_padding_are_hidden(model, rows):
    batch = {name: column[:2] for name, column in rows.items()}
    inputs = tuple(batch[name] for name in ("sentence", "rules", "parents", "paths"))
    model.double()

    def loss(v):
        logits = torch.func.functional_call(model, {"copy.v": v}, inputs)
        return logits.log_softmax(dim=-1).gather(2, batch["rules"][..., None])[batch["rules"] != 0].sum()

    v = model.copy.v.detach()[:8].clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, v) and torch.autograd.gradgradcheck(loss, v)
    model.loss(batch)["rules"].total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.rules.weight.grad is not None and model.letters.weight.grad.abs().sum() > 0


def test_the_gate_is_a_softmax_over_two_sources():
    torch.manual_seed(0)
    gate = Gate(6, 2, learned=True).double()
    states, other = torch.randn(2, 1, 3, 6, dtype=torch.double)
    query, key, value = gate.project(states)[0].split(6, dim=-1)
    other_key, other_value = gate.project_other(other)[0].split(6, dim=-1)
    expected = torch.zeros(3, 6, dtype=torch.double)
    for place in range(3):
        for head in (slice(0, 3), slice(3, 6)):
            scores = [query[place, head] @ each[place, head] / math.sqrt(3) for each in (key, other_key)]
            shares = torch.stack(scores).softmax(dim=0)
            expected[place, head] = shares[0] * value[place, head] + shares[1] * other_value[place, head]
    torch.testing.assert_close(gate(states, other)[0], expected)
    half = Gate(6, 2, learned=False).double()
    half.load_state_dict(gate.state_dict())
    torch.testing.assert_close(half(states, other)[0], (value + other_value) / 2)


def test_the_tree_convolution_reads_parent_and_grandparent():
    torch.manual_seed(0)
    convolution = TreeConvolution(4, along_tree=True).double()
    states, parents = torch.randn(1, 5, 4, dtype=torch.double), torch.tensor([[0, 0, 1, 1, 3]])
    step = torch.zeros(5, 5, dtype=torch.double)
    step[torch.arange(5), parents[0]] = 1  # a row of the adjacency matrix M for each node
    family = torch.cat([states[0], step @ states[0], step @ step @ states[0]], dim=-1)
    torch.testing.assert_close(convolution(states, parents)[0], nn.functional.gelu(convolution.project(family)))
    alone = TreeConvolution(4, along_tree=False).double()
    alone.load_state_dict(convolution.state_dict())
    own = torch.arange(5)[None]
    torch.testing.assert_close(alone(states, parents), convolution(states, own))


def test_word_convolutions_read_three_words_and_no_padding():
    torch.manual_seed(0)
    convolutions, states = WordConvolutions(4).double(), torch.randn(1, 5, 4, dtype=torch.double)
    found = convolutions(states, torch.tensor([[True, True, True, False, False]]))[0, :3]
    words = torch.cat([torch.zeros(1, 4), states[0, :3], torch.zeros(1, 4)])
    for number, (depthwise, pointwise) in enumerate(zip(convolutions.depthwise, convolutions.pointwise, strict=True)):
        words = nn.functional.gelu(words) if number else words
        sums = [(depthwise.weight[:, 0].T * words[place : place + 3]).sum(dim=0) for place in range(3)]
        mixed = pointwise(torch.stack(sums) + depthwise.bias)
        words = torch.cat([torch.zeros(1, 4), mixed, torch.zeros(1, 4)])
    torch.testing.assert_close(found, mixed)


def test_the_rival_writes_unknown_words_as_one_name(splits):
    tokens = Tokens(splits["train"])
    ids = tokens.rows([Pair("zebra is missing", "zebra is None")])
    assert ids["source_ids"][0, 0] == treegen.UNKNOWN == ids["target_ids"][0, 1]
    assert not (tokens.rows(splits["train"])["target_ids"] == treegen.UNKNOWN).any()


def test_sizes_that_do_not_divide_are_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    assert "--d-model 30 is not divisible by --num-heads 4" in refusal(treegen.main, "--d-model 30", folder, capsys)
    assert "--d-model 6 is not divisible by 4" in refusal(treegen.main, "--d-model 6 --num-heads 2", folder, capsys)
    assert "--sentences 499: at least 500" in refusal(treegen.main, "--sentences 499", folder, capsys)
