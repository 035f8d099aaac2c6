"""GPT against transformers' GPT-2: logits, gradients, parameter counts."""

import math

import pytest
import torch
from helpers_models import gpt2_counterparts
from transformers import GPT2Config, GPT2LMHeadModel

from minitransformer.models import GPT, GPTConfig


@pytest.mark.parametrize(("d_model", "heads", "layers"), [(12, 3, 2), (10, 5, 1), (16, 1, 3)])
def test_logits_and_gradients_equal_those_of_gpt2_on_padded_rows(d_model, heads, layers):
    config = GPT2Config(vocab_size=11, n_positions=9, n_embd=d_model, n_head=heads, n_layer=layers)
    theirs = GPT2LMHeadModel(config).eval()
    ours = GPT(
        GPTConfig(vocab_size=11, max_length=9, d_model=d_model, num_heads=heads, num_layers=layers, eos_id=0)
    ).eval()
    with torch.no_grad():
        for mine, other, transposed in gpt2_counterparts(ours, theirs):
            other += 0.2 * torch.randn_like(other)
            mine.copy_(other.T if transposed else other)
    ids = torch.randint(11, (3, 7))
    valid = torch.arange(7) < torch.tensor([[7], [4], [1]])
    expected = theirs(ids, attention_mask=valid.long()).logits
    logits = ours(ids, valid)
    torch.testing.assert_close(logits[valid], expected[valid], rtol=0, atol=1e-5)
    upstream = torch.randn_like(logits[valid])
    (logits[valid] * upstream).sum().backward()
    (expected[valid] * upstream).sum().backward()
    for mine, other, transposed in gpt2_counterparts(ours, theirs):
        torch.testing.assert_close(mine.grad, other.grad.T if transposed else other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("preset", "count"), [(GPTConfig.gpt2(), 124_439_808), (GPTConfig.gpt2_xl(), 1_557_611_200)])
def test_presets_have_the_published_number_of_parameters(preset, count):
    with torch.device("meta"):
        assert GPT(preset).num_parameters() == count


MODERN = {"norm": "rmsnorm", "activation": "relu_squared", "bias": False, "qk_norm": True, "num_kv_heads": 2}


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi", "none"])
def test_a_later_token_changes_no_earlier_logit(positions):
    sizes = {"vocab_size": 9, "max_length": 8, "d_model": 16, "num_heads": 4, "num_layers": 2, "eos_id": 0}
    model = GPT(GPTConfig(**sizes, positions=positions, logit_softcap=5.0, **MODERN)).eval()
    ids = torch.randint(9, (2, 6))
    changed = ids.clone()
    changed[:, 4] = (ids[:, 4] + 1) % 9
    before, after = model(ids), model(changed)
    torch.testing.assert_close(after[:, :4], before[:, :4], rtol=0, atol=1e-6)
    assert not torch.allclose(after[:, 4:], before[:, 4:])


def test_initialisation_is_gpt2s():
    """N(0, 0.02), what writes to the residual stream divided by the root of the number of such writes."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=500, max_length=64, d_model=96, num_heads=4, num_layers=8, eos_id=0))
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            assert (parameter == 1).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            residual = name.endswith(("project_out.weight", "contract.weight"))
            expected = 0.02 / math.sqrt(16) if residual else 0.02
            # Of n draws the standard deviation is off by 1 in root 2 n; five times that is never seen.
            assert parameter.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * parameter.numel())), name
            assert abs(parameter.mean().item()) < 5 * expected / math.sqrt(parameter.numel()), name


def test_zero_residuals_make_every_block_the_identity():
    model = GPT(GPTConfig.tiny()).eval()
    model.init_weights(zero_residual=True)
    states = torch.randn(2, 5, 128)
    for block in model.decoder.layers:
        assert torch.equal(block(states), states)
