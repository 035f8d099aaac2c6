"""GPT's size, causality and initial weights; `pretrained/test_gpt2.py` compares it with transformers' GPT-2."""

import pytest
import torch

from minitransformer.models import GPT, GPTConfig

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


def test_zero_residuals_make_every_block_the_identity():
    model = GPT(GPTConfig.tiny()).eval()
    model.init_weights(zero_residual=True)
    states = torch.randn(2, 5, 128)
    for block in model.decoder.layers:
        assert torch.equal(block(states), states)
