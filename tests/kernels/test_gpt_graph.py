"""The step that a CUDA graph records computes, step by step, what a step does. That it is recorded: tests/cuda."""

import pytest
import torch
from helpers_models import assert_close, fresh_gpt, layout, padded, prompts

from minitransformer.kernels import one_call
from minitransformer.kernels.gpt_graph import FixedStep, StepGraph

MODERN = {"norm": "rmsnorm", "activation": "swiglu", "bias": False, "qk_norm": True, "logit_softcap": 5.0}


@pytest.mark.parametrize(("positions", "kv_heads", "options"), [("learned", None, {}), ("rotary", 2, MODERN)])
@pytest.mark.parametrize("lengths", [[3, 5], [5, 5]], ids=["padded", "unpadded"])
@torch.no_grad()
def test_a_fixed_step_gives_the_logits_of_a_step(positions, kv_heads, options, lengths):
    model, follow = fresh_gpt(positions, kv_heads, **options), torch.stack(prompts(6, 6))
    valid = layout(lengths)
    inputs = padded(model, prompts(*lengths), valid)
    _, state = model.start(inputs, valid, max_new_tokens=8)
    _, same = model.start(inputs, valid, max_new_tokens=8)
    for cache in same.caches:
        cache.pairs[:, :, cache.num_seen :] = float("nan")  # what unused memory may hold
    fixed = FixedStep(same.flat, model._logits, same.caches, same.position_ids, same.valid, 2)
    for ids in follow.unbind(dim=1):
        expected, state = model.step(ids, state)
        fixed.ids.copy_(ids)
        assert_close(fixed(), expected)


def test_a_graph_serves_one_call_of_an_unchanged_model_and_is_recorded_after_some_steps():
    model = fresh_gpt(max_length=40)
    _, state = model.start(torch.tensor([[1, 2]]), max_new_tokens=30)
    takes = lambda: state.graph.takes(state.flat, state.caches)  # noqa: E731
    assert not takes()  # not within a call
    with one_call():
        assert not takes()  # not compared with what the model was
        assert state.flat.parts.unchanged()
        assert [takes() for _ in range(4)] == [False, False, True, True]
        selected = state.select(torch.tensor([0, 0]))
        assert not selected.graph.takes(selected.flat, selected.caches)
        assert not StepGraph().takes(state.flat, state.caches)
    with one_call():
        assert not takes()
