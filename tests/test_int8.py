"""A model with weights of 8 bits computes nearly the same on every path, and the saved model does not change."""

import pytest
import torch
from helpers_models import fresh_gpt
from torch import nn

from minitransformer import (
    GPT,
    GPTConfig,
    InputError,
    RNNConfig,
    RNNSeq2Seq,
    Transformer,
    TransformerConfig,
    beam_search,
    greedy,
    kernels,
)
from minitransformer.int8 import Int8Linear, quantize


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(1, 1), (7, 5), (48, 33), (66, 701)])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (65,), (0,)])
@torch.no_grad()
def test_outputs_are_within_the_rounding_of_weights_and_inputs(shape, sizes, bias):
    layer, x = nn.Linear(*sizes, bias=bias), torch.randn(*shape, sizes[0])
    found = Int8Linear(layer)(x)
    assert found.shape == (*shape, sizes[1]) and found.dtype == x.dtype
    # Half a step of 1/127 for each weight; 2⁻⁸ for each input, the scale and the output.
    bound = x.abs() @ (layer.weight.abs() / 64 + layer.weight.abs().amax(dim=1, keepdim=True) / 254).T + 0.01
    assert ((found - layer(x)).abs() <= bound).all()


def test_a_row_of_zeros_stays_zero():
    layer = nn.Linear(32, 2, bias=False)
    with torch.no_grad():
        layer.weight[0] = 0
        assert torch.equal(Int8Linear(layer)(torch.ones(1, 32))[:, 0], torch.zeros(1))


def tied_gpt():
    return GPT(GPTConfig(vocab_size=50, d_model=64, num_heads=2, num_layers=2, max_length=32, eos_id=0)).eval()


def test_a_step_without_modules_equals_one_with_them():
    model, prompt = quantize(tied_gpt()), torch.tensor([[3, 1, 4]])
    _, state = model.start(prompt, max_new_tokens=2)
    assert state.flat is not None and state.flat.parts.unchanged()
    flat, _ = model.step(torch.tensor([1]), state)
    with kernels.disabled():
        _, state = model.start(prompt, max_new_tokens=2)
        plain, _ = model.step(torch.tensor([1]), state)
    assert torch.allclose(flat, plain, atol=0.02)


def test_a_tied_embedding_keeps_its_precision_and_the_output_is_near():
    model, ids = tied_gpt(), torch.tensor([[3, 1, 4]])
    table, before = model.embedding.weight.clone(), model(ids)
    with torch.no_grad():
        after = quantize(model)(ids)
    assert torch.equal(model.embedding.weight, table)
    assert 0 < (after - before).abs().max() < 0.05 * before.abs().max()


def test_a_transformer_decodes_in_8_bits():
    sizes = {"d_model": 32, "num_heads": 2, "d_ff": 64, "num_encoder_layers": 1, "num_decoder_layers": 1}
    model = quantize(Transformer(TransformerConfig(source_vocab_size=20, target_vocab_size=23, **sizes)).eval())
    inputs = torch.randint(4, 20, (2, 5))
    assert len(beam_search(model, inputs, max_new_tokens=4, beam_size=2)) == 2
    assert greedy(model, inputs, max_new_tokens=4).shape[0] == 2


def test_a_hook_on_a_quantized_layer_is_obeyed_by_the_fast_step():
    model, prompt = quantize(tied_gpt()), torch.tensor([[3, 1, 4]])
    _, state = model.start(prompt, max_new_tokens=3)
    seen = []
    model.decoder.layers[0].feed_forward.expand.register_forward_hook(lambda *_: seen.append(1))
    model.step(torch.tensor([1]), state)
    assert seen


def test_what_8_bits_cannot_do_is_refused(tmp_path):
    rnn = RNNSeq2Seq(RNNConfig(source_vocab_size=9, target_vocab_size=9))
    with pytest.raises(InputError, match="int8 is for Transformers: this RNNSeq2Seq is recurrent"):
        quantize(rnn)
    with pytest.raises(InputError, match="is on a GPU: int8 is for a CPU"):
        quantize(nn.Linear(2, 2, device="meta"))
    with pytest.raises(InputError, match="weights of 8 bits are on meta: int8 is for a CPU"):
        Int8Linear(nn.Linear(2, 2)).to("meta")(torch.ones(1, 2, device="meta"))
    with pytest.raises(InputError, match="have no gradients"):
        Int8Linear(nn.Linear(2, 2))(torch.ones(1, 2, requires_grad=True))
    with pytest.raises(InputError, match="saving would lose it"):
        quantize(fresh_gpt()).save(tmp_path)
