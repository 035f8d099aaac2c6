"""A step of GPT without modules computes what the modules compute, whatever is done to them and whenever."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from helpers_models import assert_close, fresh_gpt, layout, padded, prompts, tiny_gpt
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import register_parametrization

from minitransformer import GPT, greedy, kernels
from minitransformer.kernels.gpt_step import FlatStep

pytestmark = pytest.mark.usefixtures("as_users_run_it")

MODERN = {"norm": "rmsnorm", "activation": "relu_squared", "bias": False, "qk_norm": True, "logit_softcap": 5.0}
LLAMA3 = {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
QWEN3 = {"norm": "rmsnorm", "activation": "swiglu", "qk_norm": True, "head_dim": 6, "bias": False, "num_heads": 4}
QWEN3 |= {"attention_bias": True, "rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8}}
OPTIONS = [{}, MODERN, QWEN3, {"activation": "swiglu", "norm": "rmsnorm"}, {"tie_output": False, "activation": "gelu"}]
PROMPT = torch.tensor([[3, 1, 4, 1]])


def steps(model, inputs, valid, follow, *, before_step=lambda number: None):
    logits, state = model.start(inputs, valid, max_new_tokens=follow.shape[1] + 1)
    collected = [logits]
    for number, ids in enumerate(follow.unbind(dim=1)):
        before_step(number)
        logits, state = model.step(ids, state)
        collected.append(logits)
    return torch.stack(collected, dim=1), state


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("positions", "kv_heads"), [("rotary", 2), ("learned", None), ("none", 1)])
def test_a_step_without_modules_equals_one_with_them(positions, kv_heads, options):
    model, given, follow = fresh_gpt(positions, kv_heads, 6, **options), prompts(3, 5), torch.stack(prompts(7, 7))
    valid = layout([3, 5])
    inputs = padded(model, given, valid)
    flat, state = steps(model, inputs, valid, follow)
    assert state.flat.parts.unchanged()  # otherwise both sides are the same
    with kernels.disabled("gpt_step"):
        assert_close(flat, steps(model, inputs, valid, follow)[0])


class Shifted(nn.Module):
    def forward(self, weight):
        return weight + 0.5


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Skipped(nn.Module):
    def forward(self, states, **options):
        return states


BLOCK = "decoder.layers.1"
# Modules of every class and at every depth that a step calls.
PATHS = [
    "embedding", "positions", "positions.embedding", "dropout", "decoder", "decoder.final_norm", "output", BLOCK,
    f"{BLOCK}.attention", f"{BLOCK}.attention.project_in", f"{BLOCK}.attention.project_out", f"{BLOCK}.feed_forward",
    f"{BLOCK}.feed_forward.expand", f"{BLOCK}.feed_forward.contract", f"{BLOCK}.feed_forward.dropout",
    f"{BLOCK}.attention_residual", f"{BLOCK}.attention_residual.norm", f"{BLOCK}.feed_forward_residual.dropout",
    f"{BLOCK}.attention.attend",
]  # fmt: skip


def replace_forward(path):
    def tamper(model):
        module = model.get_submodule(path)
        forward = type(module).forward
        module.forward = lambda *args, **kwargs: 1.5 * forward(module, *args, **kwargs)

    return tamper


def hook(path):
    return lambda model: model.get_submodule(path).register_forward_hook(lambda _, args, output: 1.5 * output)


def at(path, tamper):
    return lambda model: tamper(model.get_submodule(path))


def setting(path, **values):
    return at(path, lambda module: [setattr(module, name, value) for name, value in values.items()])


def new_linear(*sizes):
    return nn.Linear(*sizes, bias=False)


def weight_norm(layer):
    parametrizations.weight_norm(layer)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(3)


def assign_state(model):
    model.load_state_dict({name: 1.3 * tensor for name, tensor in model.state_dict().items()}, assign=True)


def plain_weight(layer):
    weight = layer.weight.detach()
    del layer.weight
    layer.weight = 1.5 * weight


def add_option(feed_forward):
    feed_forward.limit = 0.1
    feed_forward.register_forward_hook(lambda module, _, output: output.clamp(max=module.limit))


FF, ATTENTION = f"{BLOCK}.feed_forward", f"{BLOCK}.attention"
TAMPERINGS = {
    **{f"forward {path}": replace_forward(path) for path in PATHS},
    **{f"hook {path}": hook(path) for path in PATHS[::5]},
    "pre-hook": at(FF, lambda module: module.register_forward_pre_hook(lambda _, args: (2 * args[0],))),
    "hook with kwargs": at(
        ATTENTION,
        lambda part: part.register_forward_pre_hook(lambda _, args, kwargs: ((-args[0],), kwargs), with_kwargs=True),
    ),
    "subclass": setting(f"{FF}.contract", __class__=Doubled),
    "subclass of the output": setting("output", __class__=Doubled),
    "another class": setting(BLOCK, feed_forward=nn.Identity()),
    "a known class in another's place": setting(BLOCK, feed_forward=new_linear(16, 16)),
    "another layer of the class": setting(FF, contract=new_linear(64, 16)),
    "another activation": setting(FF, activation=torch.sin),
    "a module as activation": setting(FF, activation=nn.Mish()),
    "post-norm": setting(f"{BLOCK}.attention_residual", pre_norm=False),
    "no final norm": setting("decoder", final_norm=None),
    "eps": setting(f"{BLOCK}.feed_forward_residual.norm", eps=3.0),
    "a new weight": lambda model: setattr(model.get_submodule(FF).expand, "weight", nn.Parameter(torch.ones(64, 16))),
    "new data": lambda model: setattr(model.get_submodule(FF).expand.weight, "data", torch.ones(64, 16)),
    "no bias": setting(f"{FF}.contract", bias=None),
    "a weight that is no parameter": at(f"{FF}.contract", plain_weight),
    "assigned state": assign_state,
    "cast": lambda model: model.double().float(),
    "parametrisation": at(f"{FF}.contract", lambda layer: register_parametrization(layer, "weight", Shifted())),
    "weight norm": at(f"{FF}.expand", weight_norm),
    "pruning": at(f"{FF}.expand", lambda layer: prune.l1_unstructured(layer, "weight", amount=0.9)),
    "a layer fewer": lambda model: model.decoder.layers.__setitem__(1, Skipped()),
    "an option": at(FF, add_option),
}  # fmt: skip


@pytest.fixture(params=TAMPERINGS)
def tamper(request):
    return TAMPERINGS[request.param]


def test_greedy_equals_whole_forward_passes_of_a_model_that_was_tampered_with(tamper):
    model, ids = fresh_gpt(), PROMPT
    tamper(model)
    with torch.no_grad():
        for _ in range(6):
            ids = torch.cat([ids, model(ids)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
            if ids[0, -1] == model.config.eos_id:
                break
    assert greedy(model, PROMPT, max_new_tokens=6)[0].tolist() == ids[0, 4:].tolist()


def test_what_is_changed_between_steps_is_obeyed_from_then_on(tamper):
    follow, found = torch.stack(prompts(6)), []
    for switch in (contextlib.nullcontext(), kernels.disabled("gpt_step")):
        model = fresh_gpt()
        with switch:
            logits, _ = steps(
                model, PROMPT, None, follow, before_step=lambda number, model=model: number == 3 and tamper(model)
            )
        found.append(logits)
    assert_close(*found)


def test_a_hook_that_changes_the_model_within_a_call_is_obeyed_from_the_next_step_on():
    def tokens(after):
        model, calls = fresh_gpt(), []

        def change(*_):
            calls.append(1)
            if len(calls) == after:
                model.get_submodule(FF).activation = lambda x: 50 * torch.sin(x)

        model.output.register_forward_hook(change)
        return greedy(model, PROMPT, max_new_tokens=8).tolist()

    with kernels.disabled("gpt_step"):
        expected = tokens(3)
    assert tokens(3) == expected != tokens(30)


def test_hooks_on_all_modules_are_called():
    model, follow = tiny_gpt(), torch.stack(prompts(3))
    expected, _ = steps(model, PROMPT, None, follow)
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: 1.5 * output)
    try:
        flat, _ = steps(model, PROMPT, None, follow)
        with kernels.disabled("gpt_step"):
            assert_close(flat, steps(model, PROMPT, None, follow)[0])
    finally:
        handle.remove()
    assert not torch.allclose(flat, expected)


@pytest.mark.parametrize("path", ["dropout", f"{FF}.dropout", f"{BLOCK}.attention_residual.dropout", ATTENTION])
@pytest.mark.parametrize("when", [0, 2])
def test_a_module_in_training_mode_drops_inside_a_model_in_evaluation_mode(path, when):
    model, follow = fresh_gpt(dropout=0.5), torch.stack(prompts(6))
    if path == f"{FF}.dropout":
        model.get_submodule(path).p = 0.5  # GPT-2 has none there

    def sampled(seed, **options):
        torch.manual_seed(seed)
        return steps(model.eval(), PROMPT, None, follow, **options)[0]

    def training(number):
        model.get_submodule(path).train(number >= when)

    first, again, other = (sampled(seed, before_step=training) for seed in (0, 0, 1))
    certain = sampled(0)
    assert torch.equal(first, again)
    assert torch.equal(first[:, : when + 1], certain[:, : when + 1])
    assert not torch.allclose(first[:, when + 1 :], other[:, when + 1 :])
    with kernels.disabled("gpt_step"):
        assert_close(first, sampled(0, before_step=training))


def test_a_subclass_of_gpt_takes_its_own_steps():
    class Silent(GPT):
        def _states(self, *args, **kwargs):
            return torch.zeros_like(super()._states(*args, **kwargs))

    model = Silent(tiny_gpt().config).eval()
    logits, _ = steps(model, PROMPT, None, torch.stack(prompts(3)))
    assert not logits.any()


def test_a_class_that_has_learned_an_option_is_not_passed_over(monkeypatch):
    model = fresh_gpt()
    assert FlatStep.of(model)
    model.decoder.layers[0].feed_forward.limit = 0.1
    assert FlatStep.of(model) is None
    monkeypatch.setattr(nn.Linear, "forward", lambda layer, x: F.linear(x, 2 * layer.weight, layer.bias))
    assert FlatStep.of(fresh_gpt()) is None
