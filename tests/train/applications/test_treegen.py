"""English to Python along the syntax tree."""

import math
from dataclasses import replace

import pytest
import torch
from helpers_applications import run
from torch import nn

from minitransformer import beam_search, greedy, sample
from minitransformer.errors import InputError
from train.applications import treegen
from train.applications.english_to_python import MOST_STEPS, NAMES_OF, Language, Pair, corpus, normal
from train.applications.treegen import Gate, Tokens, TreeConvolution, TreeGen, TreeGenConfig, WordConvolutions


@pytest.fixture(scope="module")
def splits():
    return corpus(500)


@pytest.fixture(scope="module")
def language(splits):
    return Language.of(splits)


@pytest.fixture
def model(language):
    torch.manual_seed(0)
    model = TreeGen(TreeGenConfig(language.choices, language.words, 8, 2, 2)).eval()
    nn.init.normal_(model.copy.v)  # it starts at 0
    return model


@pytest.fixture(scope="module")
def rows(splits, language):
    return language.rows(splits["new names"][:8])


def test_a_tiny_run_trains_all_rivals_and_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(treegen, "MOST_STEPS", 8)  # of the trees that are written
    flags = ["--sentences", "500", "--d-model", "8", "--num-heads", "2", "--steps", "8", "--evaluations", "2"]
    rows = run(treegen, tmp_path / "run", *flags)
    parameters = [row["parameters"] for row in rows.values()]
    assert list(rows) == ["TreeGen", "no tree convolution", "no gates", "sequence to sequence"]
    assert parameters[0] == parameters[1] == parameters[2] == pytest.approx(parameters[3], rel=0.01)
    assert [row["test"]["parse"] for row in rows.values()][:3] == [1.0, 1.0, 1.0]


def test_flags_that_do_not_divide_are_refused(tmp_path, capsys):
    for flags, message in (
        (["--d-model", "30"], "--d-model 30 is not divisible by --num-heads 4"),
        (["--d-model", "6", "--num-heads", "2"], "--d-model 6 is not divisible by 4"),
        (["--sentences", "499"], "--sentences 499: at least 500"),
    ):
        with pytest.raises(SystemExit):
            treegen.main(["--out", str(tmp_path / "run"), *flags])
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_sentence_has_one_meaning_and_stands_in_one_split_and_new_names_are_new(splits):
    meanings = {}
    for name, pairs in splits.items():
        for pair in pairs:
            assert meanings.setdefault(pair.english, (pair.python, name)) == (pair.python, name)
    train = {word.strip("'") for pair in splits["train"] for word in pair.english.split()}
    assert not train & {*NAMES_OF["new"], *NAMES_OF["validation"]}
    assert set(NAMES_OF["known"]) <= train


def test_rules_derive_every_expression_and_no_name_is_a_rule(splits, language):
    for pair in (pair for pairs in splits.values() for pair in pairs):
        tree = language.tree(pair)
        assert not tree.open and len(tree.rules) <= MOST_STEPS
        assert language.text(tree.rules, pair.english) == pair.python
    assert not {*language.rules, *language.words} & {name for names in NAMES_OF.values() for name in names}


@pytest.mark.parametrize(
    ("english", "python", "message"),
    [
        ("a set", "{1, 2}", "'{1, 2}' is outside the grammar: Expression.body cannot be Set"),
        ("a b c", "a < b < c", "'a < b < c' is outside the grammar: Compare.ops cannot be 2 items"),
        ("the length of dog", "len(cat)", "'len(cat)' is outside the grammar: Name.id cannot be cat"),
        ("item 1 of dog", "dog[0xff]", "Constant.value cannot be 255"),
        ("a call", "f(", "'f(' is not a Python expression: "),
    ],
)
def test_an_expression_outside_the_grammar_is_named(language, english, python, message):
    with pytest.raises(InputError, match=r"^[^\n]*$") as error:
        language.tree(Pair(english, python))
    assert message in str(error.value)


def test_whatever_is_drawn_parses_however_few_steps_there_are(model, language, splits):
    pairs = splits["known names"][:20]
    sentences = language.rows(pairs)["sentence"]
    least = int(language.least["Expression.body"])
    for most in (least, least + 1, 16):
        drawn = sample(model, sentences, max_new_tokens=most, temperature=3.0, seed=most)
        texts = [language.text(ids, pair.english) for ids, pair in zip(drawn.tolist(), pairs, strict=True)]
        assert all(normal(text) for text in texts)
        assert len(set(texts)) > 5
    with pytest.raises(InputError, match=rf"max_new_tokens={least - 1}: the smallest tree takes {least} rules"):
        greedy(model, sentences, max_new_tokens=least - 1)


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
    shares = log_p.exp()[..., : model.language.size].sum(dim=-1)
    torch.testing.assert_close(log_p.exp().sum(dim=-1), torch.ones_like(shares))
    assert shares.std() > 0
    is_padding = rows["sentence"][..., 0] == 0
    assert (log_p[..., model.language.size :].exp().amax(dim=1)[is_padding] == 0).all()


def test_beam_search_decodes_and_a_beam_of_one_is_greedy(model, rows):
    found = beam_search(model, rows["sentence"], max_new_tokens=14, beam_size=1)
    for ids, [hypothesis] in zip(greedy(model, rows["sentence"], max_new_tokens=14).tolist(), found, strict=True):
        assert ids[: len(hypothesis.ids)] == hypothesis.ids
    found = beam_search(model, rows["sentence"], max_new_tokens=6, beam_size=20, n_best=3)
    assert all(math.isfinite(hypothesis.score) for hypotheses in found for hypothesis in hypotheses)


def test_gradients_are_finite_where_rules_are_hidden(model, rows):
    model.loss({**rows})["rules"].total.backward()
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


def test_word_convolutions_do_not_see_padding():
    torch.manual_seed(0)
    convolutions, states = WordConvolutions(4), torch.randn(1, 5, 4)
    valid = torch.tensor([[True, True, True, False, False]])
    torch.testing.assert_close(convolutions(states, valid)[:, :3], convolutions(states[:, :3], valid[:, :3]))


def test_a_saved_model_writes_the_same(model, rows, tmp_path):
    model.save(tmp_path)
    loaded = TreeGen.load(tmp_path)
    found, again = (greedy(each, rows["sentence"], max_new_tokens=12) for each in (model, loaded))
    assert torch.equal(found, again)
    assert replace(loaded.config, gates=False) != loaded.config == model.config


def test_the_rival_writes_unknown_words_as_one_name(splits):
    tokens = Tokens(splits["train"])
    ids = tokens.rows([Pair("zebra is missing", "zebra is None")])
    assert ids["source_ids"][0, 0] == treegen.UNKNOWN == ids["target_ids"][0, 1]
    assert not (tokens.rows(splits["train"])["target_ids"] == treegen.UNKNOWN).any()
