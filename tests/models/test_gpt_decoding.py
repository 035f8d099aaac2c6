"""GPT from step to step: with a cache or without, padded or not, beyond its context."""

import typing

import pytest
import torch
from helpers_models import (
    GPT_EOS,
    GPT_VOCAB,
    assert_close,
    layout,
    nudged,
    padded,
    prompts,
    step_logits,
    tiny_gpt,
    until,
)
from transformers import GPT2Config, GPT2LMHeadModel

from minitransformer import GPTConfig, InputError, greedy, sliding_window_mask
from minitransformer.models.gpt import GPT

pytestmark = pytest.mark.usefixtures("as_users_run_it")

MODERN = {"norm": "rmsnorm", "qk_norm": True, "activation": "relu_squared", "bias": False, "logit_softcap": 5.0}
QWEN3 = {"norm": "rmsnorm", "qk_norm": True, "activation": "swiglu", "head_dim": 6, "attention_bias": False}
OPTIONS = {
    "GPT-2's": {},
    "modern": MODERN,
    "qwen3": QWEN3,
    "untied swiglu": {"activation": "swiglu", "tie_output": False},
}
every_scheme = pytest.mark.parametrize("positions", typing.get_args(typing.get_type_hints(GPTConfig)["positions"]))
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@torch.no_grad()
def without_cache(model, row, first):
    """The logits after each token of `row` from number `first` on, recomputed from the tokens: under a sliding window,
    or, with learned positions, from the last half of the context whenever the context is full."""
    c, places = model.config, torch.arange(len(row))[None]
    limit = min(c.max_length, c.sliding_window or c.max_length)
    if c.positions != "learned":
        mask = sliding_window_mask(len(row), len(row), limit)
        return model._logits(model._states(row[None], places, mask))[0, first - 1 :]
    context, collected = row[:first].tolist()[-limit:], []
    for ids in [*row[first:].tolist(), None]:
        collected.append(model(torch.tensor([context]))[0, -1])
        context = [*context[-(limit // 2 - 1) :], ids] if len(context) == limit else [*context, ids]
    return torch.stack(collected)


def assert_decoding_equals_recomputation(model, lengths, steps, where="mixed"):
    given, follow = prompts(*lengths), torch.stack(prompts(*[steps] * len(lengths), seed=1))
    valid = layout(lengths, where)
    logits = step_logits(model, padded(model, given, valid), valid, follow)
    for prompt, after, row in zip(given, follow, logits, strict=True):
        assert_close(row, without_cache(model, torch.cat([prompt, after]), len(prompt)))


@every_scheme
@pytest.mark.parametrize(
    ("kv_heads", "where"), [(4, "mixed"), (1, "mixed"), *((2, where) for where in ("left", "scattered", "right"))]
)
def test_cached_logits_of_padded_prompts_equal_recomputed_ones(positions, kv_heads, where):
    assert_decoding_equals_recomputation(tiny_gpt(positions, kv_heads), [3, 5, 1], 6, where)


@every_scheme
@every_option
@pytest.mark.parametrize("max_length", [4, 7, 16])
def test_cached_logits_equal_recomputed_ones_past_the_context_and_with_every_option(positions, options, max_length):
    """Rows of different lengths reach the end of the context at different steps, and some of them several times."""
    lengths = (1, min(max_length, 9), 3)
    assert_decoding_equals_recomputation(tiny_gpt(positions, 2, max_length, **options), lengths, 15)


@pytest.mark.parametrize("positions", ["rotary", "alibi", "none"])
@pytest.mark.parametrize("window", [1, 3, 5])
def test_cached_logits_equal_recomputed_ones_under_a_sliding_window(positions, window):
    """The prompts are longer than the window, as long, and shorter."""
    assert_decoding_equals_recomputation(tiny_gpt(positions, 2, 16, sliding_window=window), [7, 3, 1], 15)
    model, valid = tiny_gpt(positions, 2, 16, sliding_window=window), layout([7, 3, 1])
    rows = prompts(7, 3, 1)
    logits = model(padded(model, rows, valid), valid)
    for row, real, mine in zip(rows, valid, logits, strict=True):
        assert_close(mine[real], without_cache(model, row, 1))


@pytest.mark.parametrize("max_length", [1, 2])
def test_the_smallest_contexts_work(max_length):
    model = tiny_gpt("learned", None, max_length)
    (row,) = prompts(6)
    logits = step_logits(model, row[None, :1], None, row[None, 1:])
    # What is read always fits: the last token, and the one before it where the context was not just begun again.
    expected = [model(row[None, i : i + 1])[0, -1] for i in range(6)]
    if max_length == 2:
        expected[1] = model(row[None, 0:2])[0, -1]
        expected[3], expected[5] = model(row[None, 2:4])[0, -1], model(row[None, 4:6])[0, -1]
    assert_close(logits[0], torch.stack(expected))


@every_scheme
def test_selected_rows_decode_as_a_batch_of_those_rows(positions):
    model, chosen = tiny_gpt(positions, 2, 6), torch.tensor([2, 0, 0])
    given, follow = prompts(2, 4, 5), torch.stack(prompts(8, 8, 8, seed=1))
    valid = layout([2, 4, 5])
    inputs = padded(model, given, valid)
    _, original = model.start(inputs, valid, max_new_tokens=9)
    state, collected = original.select(chosen), []
    for ids in follow.unbind(dim=1):
        logits, state = model.step(ids, state)
        collected.append(logits)
    expected = step_logits(model, inputs[chosen], valid[chosen], follow)[:, 1:]
    assert_close(torch.stack(collected, dim=1), expected)
    logits, _ = model.step(follow[:, 0], original)  # the state that was selected from is unchanged
    assert_close(logits, step_logits(model, inputs, valid, follow[:, :1])[:, 1])


@every_scheme
def test_a_prompt_without_tokens_starts_from_the_end_of_text(positions):
    model = tiny_gpt(positions)
    expected = model(torch.tensor([[GPT_EOS]]))[:, -1]
    logits, _ = model.start(torch.empty(1, 0, dtype=torch.long), max_new_tokens=1)
    assert_close(logits, expected)
    (other,) = prompts(3)
    inputs, valid = torch.stack([other, other]), torch.tensor([[False] * 3, [True] * 3])
    logits, _ = model.start(inputs, valid, max_new_tokens=1)
    assert_close(logits, torch.cat([expected, model(other[None])[:, -1]]))


@every_scheme
def test_a_prompt_beyond_the_context_is_cut_to_its_last_part_with_a_warning(positions):
    model = tiny_gpt(positions, None, 6)
    (row,) = prompts(9)
    with pytest.warns(UserWarning, match="a prompt of 9 tokens: the model reads the last 6"):
        logits, _ = model.start(row[None], max_new_tokens=1)
    assert_close(logits, model(row[None, -6:])[:, -1])


def test_more_steps_than_announced_are_refused_and_do_not_push_out_old_tokens():
    model = tiny_gpt("rotary")
    _, state = model.start(torch.stack(prompts(3, 3)), max_new_tokens=2)
    _, state = model.step(torch.tensor([1, 1]), state)
    _, state = model.step(torch.tensor([1, 1]), state)
    with pytest.raises(InputError, match="the caches hold 5 tokens, prompt included: start with more max_new_tokens"):
        model.step(torch.tensor([1, 1]), state)


@pytest.mark.parametrize(("width", "heads", "layers", "seed"), [(12, 3, 2, 7), (10, 5, 1, 7)])
def test_greedy_generations_equal_those_of_transformers(width, heads, layers, seed, tmp_path):
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=GPT_VOCAB,
        n_positions=20,
        n_embd=width,
        n_head=heads,
        n_layer=layers,
        eos_token_id=GPT_EOS,
        pad_token_id=0,
    )
    theirs = nudged(GPT2LMHeadModel(config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path).eval()
    given = prompts(6, 2, 4, 1)
    valid = torch.arange(6) >= torch.tensor([[0], [4], [2], [5]])  # theirs wants its padding on the left
    inputs = padded(ours, given, valid)
    expected = theirs.generate(inputs, attention_mask=valid.long(), do_sample=False, max_new_tokens=12)[:, 6:]
    got = greedy(ours, inputs, valid, max_new_tokens=12)
    assert [until(GPT_EOS, row) for row in got.tolist()] == [until(GPT_EOS, row) for row in expected.tolist()]
    assert len({len(until(GPT_EOS, row)) for row in got.tolist()}) > 1
