"""Beam search against brute force, greedy decoding and the probabilities of the whole model run once."""

import dataclasses
import functools
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from helpers_models import Scripted, layout, nudged, padded, tiny_gpt, tiny_rnn, tiny_transformer
from helpers_pieces import few_examples
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer import GPT, InputError, beam_search, greedy
from minitransformer.beam import likeliest_continuations

pytestmark = pytest.mark.usefixtures("as_users_run_it")

VOCAB, LENGTH, EOS = 4, 5, 3


def small(model, seed):
    """A sure-footed float64 model of the same kind that writes four tokens, of which `EOS` is one."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCAB} if isinstance(model, GPT) else {"target_vocab_size": VOCAB, "pad_id": 0, "bos_id": 2}
    model = nudged(type(model)(dataclasses.replace(model.config, eos_id=EOS, **sizes))).eval().double()
    with torch.no_grad():
        model.output.weight *= 2
    return model


MODELS = {
    **{f"rnn-{kind}": functools.partial(tiny_rnn, attention=kind) for kind in ("location", "additive", "none")},
    "rnn-fed": functools.partial(tiny_rnn, attention="general", input_feeding=True, cell="lstm", num_layers=2),
    "transformer": tiny_transformer,
    "transformer-rotary": functools.partial(tiny_transformer, positions="rotary", pre_norm=True, num_kv_heads=2),
    "transformer-relative": functools.partial(tiny_transformer, positions="relative"),
    "gpt": tiny_gpt,
    "gpt-rotary": functools.partial(tiny_gpt, positions="rotary", kv_heads=2),
}
every_model = pytest.mark.parametrize("name", MODELS)


@functools.cache
def model_of(name, seed=0):
    return small(MODELS[name](), seed)


def some_sources(model, *lengths, seed=0):
    torch.manual_seed(seed)
    size = model.config.vocab_size if isinstance(model, GPT) else model.config.source_vocab_size
    return [torch.randint(size, (length,)) for length in lengths]


@torch.no_grad()
def log_probabilities(model, source, texts):
    """log P of every beginning (texts, LENGTH) of `texts`, by one pass over each."""
    given = source.expand(len(texts), -1)
    if isinstance(model, GPT):
        logits = model(torch.cat([given, texts], dim=1))[:, len(source) - 1 : -1]
    else:
        bos = torch.full_like(texts[:, :1], model.config.bos_id)
        logits = model(given, torch.cat([bos, texts[:, :-1]], dim=1))
    return logits.log_softmax(dim=-1).gather(2, texts[..., None])[..., 0].cumsum(dim=1)


@functools.cache
def table(name, length):
    """log P of every sequence of up to `LENGTH` tokens about a source of this length."""
    model = model_of(name)
    texts = torch.tensor([*itertools.product(range(VOCAB), repeat=LENGTH)])
    rows = log_probabilities(model, some_sources(model, length, seed=length)[0], texts).tolist()
    return {
        tuple(text[:end]): row[end - 1]
        for text, row in zip(texts.tolist(), rows, strict=True)
        for end in range(1, LENGTH + 1)
    }


def ended(text):
    return text[-1] == EOS or len(text) == LENGTH


def ranked(found, alpha):
    """(text, log P) -> (text, log P, score), best first; the formula of Wu et al. written out once more."""
    scored = [(text, log_p, log_p / ((5 + len(text)) ** alpha / 6**alpha)) for text, log_p in found]
    return sorted(scored, key=lambda hypothesis: -hypothesis[2])


def plain_beam_search(log_p, beam_size, alpha):
    """On lists, over a table of probabilities, to the last token: nothing is stopped early."""
    beam, found = [()], []
    for _ in range(LENGTH):
        continued = sorted(((*text, i) for text in beam for i in range(VOCAB)), key=lambda text: -log_p[text])
        continued = continued[:beam_size]
        found += [(text, log_p[text]) for text in continued if ended(text)]
        beam = [text for text in continued if not ended(text)]
    return ranked(found, alpha)


def assert_found(hypotheses, expected):
    assert [tuple(hypothesis.ids) for hypothesis in hypotheses] == [text for text, _, _ in expected]
    for hypothesis, (_, log_p, score) in zip(hypotheses, expected, strict=True):
        assert hypothesis.log_probability == pytest.approx(log_p, abs=1e-9)
        assert hypothesis.score == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@every_model
def test_a_beam_as_wide_as_there_are_texts_finds_the_best_of_all_texts(name, alpha):
    model = model_of(name)
    log_p = table(name, 4)
    texts = [text for text in log_p if EOS not in text[:-1] and ended(text)]
    expected = ranked([(text, log_p[text]) for text in texts], alpha)
    assert len(texts) == sum(3**n for n in range(LENGTH)) + 3**LENGTH
    source = some_sources(model, 4, seed=4)[0][None]
    for n_best in (1, 400) if alpha == 0.6 else (400,):
        found = beam_search(model, source, max_new_tokens=LENGTH, beam_size=VOCAB**LENGTH, alpha=alpha, n_best=n_best)
        assert_found(found[0], expected[:n_best])


@every_model
def test_narrow_beams_find_what_a_plain_search_to_the_end_finds(name):
    lengths_found = set()
    for length, beam_size, alpha, n_best in ((3, 2, 0.0, 1), (1, 3, 1.0, 1), (3, 3, 0.6, 3), (4, 11, 3.0, 5)):
        expected = plain_beam_search(table(name, length), beam_size, alpha)
        source = some_sources(model_of(name), length, seed=length)[0][None]
        options = dict(max_new_tokens=LENGTH, beam_size=beam_size, alpha=alpha, n_best=n_best)
        assert_found(beam_search(model_of(name), source, **options)[0], expected[:n_best])
        lengths_found |= {len(text) for text, _, _ in expected}
    assert len(lengths_found) > 2  # otherwise the penalty of a length was never tried


@every_model
def test_a_batch_gives_what_each_row_gives_alone_within_its_own_limit(name):
    model = model_of(name)

    @settings(few_examples, max_examples=4)
    @given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=2, max_size=3), st.integers(1, 4))
    def check(rows, beam_size):
        lengths, limits = (list(values) for values in zip(*rows, strict=True))
        texts, valid = some_sources(model, *lengths), layout(lengths)
        filled = padded(model, texts, valid)
        options = dict(beam_size=beam_size, alpha=0.6, n_best=beam_size)
        together = beam_search(model, filled, valid, max_new_tokens=torch.tensor(limits), **options)
        for text, limit, found in zip(texts, limits, together, strict=True):
            alone = beam_search(model, text[None], max_new_tokens=limit, **options)[0]
            assert_found(found, [(tuple(each.ids), each.log_probability, each.score) for each in alone])

    check()


@every_model
def test_one_beam_is_greedy(name):
    for seed in (0, 1):
        model = model_of(name, seed)
        texts = torch.stack(some_sources(model, *[3] * 6))
        expected = greedy(model, texts, max_new_tokens=6).tolist()
        for alpha in (0.0, 0.6)[seed:]:
            found = beam_search(model, texts, max_new_tokens=6, beam_size=1, alpha=alpha)
            for (hypothesis,), ids in zip(found, expected, strict=True):
                assert hypothesis.ids == (ids[: ids.index(EOS) + 1] if EOS in ids else ids)


@few_examples
@given(
    batch=st.integers(1, 3),
    beams=st.integers(1, 4),
    vocab=st.integers(2, 70),
    count=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_continuations_are_those_of_one_sort_over_all_beams_and_the_vocabulary(batch, beams, vocab, count, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch * beams, vocab, generator=generator, dtype=torch.float64)
    logits[:, 2::3] = -math.inf
    log_p = -torch.rand(batch, beams, generator=generator, dtype=torch.float64)
    log_p[:, 1:].masked_fill_(torch.rand(batch, beams - 1, generator=generator) < 0.3, -math.inf)  # have ended
    flat = (log_p.view(-1, 1) + logits.log_softmax(dim=-1)).view(batch, beams * vocab)
    expected, order = flat.sort(dim=-1, descending=True)
    values, from_beams, ids = likeliest_continuations(log_p, logits, count)
    count = min(count, beams * vocab)
    torch.testing.assert_close(values, expected[:, :count])
    found, real = from_beams * vocab + ids, values.isfinite()
    assert torch.equal(found[real], order[:, :count][real])
    assert all(len(set(row)) == count for row in found.tolist())


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_search_ends_as_soon_as_nothing_can_be_better(alpha):
    # After one token EOS has probability 0.98: with 2% left, no longer text can pass it, however long.
    certain = torch.tensor([0.005, 0.005, 0.01, 0.98]).log()
    model = Told(certain)
    found = beam_search(model, torch.zeros(1, 2, dtype=torch.long), max_new_tokens=9, beam_size=2, alpha=alpha)
    assert found[0][0].ids == [EOS]
    assert found[0][0].score == pytest.approx(math.log(0.98))
    assert model.rows == [1]


class Told:
    """The same logits at every step, of which it writes down for how many rows."""

    class config:  # noqa: N801
        eos_id = EOS

    def __init__(self, logits):
        self.logits, self.rows = logits, []

    def start(self, inputs, valid=None, *, max_new_tokens):
        state = SimpleNamespace(select=lambda rows: state)
        return self.step(inputs, state)

    def step(self, ids, state):
        self.rows.append(len(ids))
        return self.logits.expand(len(ids), -1), state


def test_what_is_impossible_is_no_hypothesis():
    model = Told(torch.tensor([-math.inf, -math.inf, 0.0, 0.0]))
    found = beam_search(model, torch.zeros(2, 1, dtype=torch.long), max_new_tokens=2, beam_size=8, n_best=8, alpha=0.0)
    for row in found:
        assert sorted(hypothesis.ids for hypothesis in row) == [[2, 2], [2, EOS], [EOS]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"alpha": value}, "alpha=") for value in (-0.1, 11, 1e308, float("inf"), float("nan"))],
        *[({"beam_size": value}, "beam_size=") for value in (0, 2.5, 10**9, float("nan"))],
        *[
            ({"max_new_tokens": value}, "max_new_tokens=")
            for value in (-1, 1.5, 10**30, [2, 3], True, torch.tensor([1, -1]))
        ],
        *[({"n_best": value}, "n_best=") for value in (0, 1.5, float("nan"))],
        ({"beam_size": 2, "n_best": 3}, "n_best=3 .* beam_size=2"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_read(options, message, as_users_run_it):
    model = Scripted([EOS], [EOS])
    with pytest.raises(InputError, match=message):
        beam_search(model, torch.zeros(2, 2, dtype=torch.long), **{"max_new_tokens": 3, **options})
    assert not hasattr(model, "started_with")
