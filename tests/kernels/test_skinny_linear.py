"""A linear layer by row blocks computes what `F.linear` does, and a layer that was changed is called."""

import pytest
import torch
import torch.nn.functional as F
from helpers_models import assert_close
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from minitransformer import GPT, GPTConfig, RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig, beam_search, kernels
from minitransformer.attention import MultiHeadAttention
from minitransformer.blocks import FeedForward
from minitransformer.kernels import skinny_linear

pytestmark = pytest.mark.usefixtures("as_users_run_it")

WIDTH, ROWS = 512, 1031  # an odd number of outputs, and just large enough


@pytest.fixture(autouse=True)
def two_threads_of_an_amd_processor(monkeypatch):
    monkeypatch.setattr(skinny_linear, "on_amd", lambda: True)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def by_blocks(monkeypatch):
    """The number of products by blocks so far."""
    calls, product = [], torch.bmm
    with_bias = torch.baddbmm
    monkeypatch.setattr(torch, "bmm", lambda *args: calls.append(args) or product(*args))
    monkeypatch.setattr(torch, "baddbmm", lambda *args: calls.append(args) or with_bias(*args))
    return calls


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [ROWS, 1024, 50_257])
@pytest.mark.parametrize("shape", [(1,), (3,), (8,), (17,), (32,), (2, 1), ()])
@torch.no_grad()
def test_blocks_equal_one_product(shape, outputs, bias, by_blocks):
    width = (1 << 19) // outputs + 1
    x, layer = torch.randn(*shape, width), nn.Linear(width, outputs, bias=bias)
    found = skinny_linear.through(layer, x)
    assert by_blocks
    assert found.shape == (*shape, outputs)
    assert_close(found, F.linear(x, layer.weight, layer.bias))
    with kernels.disabled("skinny_linear"):
        assert torch.equal(skinny_linear.through(layer, x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.ones(33, WIDTH), torch.ones(ROWS, WIDTH)),
        (torch.ones(0, WIDTH), torch.ones(ROWS, WIDTH)),
        (torch.ones(1, 8), torch.ones(8, 8)),
        (torch.ones(1, WIDTH), torch.ones(WIDTH, ROWS).T),
        (torch.ones(1, WIDTH, dtype=torch.float64), torch.ones(ROWS, WIDTH, dtype=torch.float64)),
        (torch.ones(1, WIDTH, dtype=torch.bfloat16), torch.ones(ROWS, WIDTH, dtype=torch.bfloat16)),
        (torch.ones(1, WIDTH, device="meta"), torch.ones(ROWS, WIDTH, device="meta")),
    ],
    ids=["many rows", "no rows", "a small weight", "a transposed weight", "float64", "bfloat16", "no CPU"],
)
@torch.no_grad()
def test_other_products_are_plain(x, weight, by_blocks):
    found = skinny_linear.linear(x, weight)
    assert not by_blocks
    assert found.shape == (len(x), len(weight)) and found.dtype == x.dtype


@pytest.mark.parametrize(
    ("rows", "width", "cut"), [(3, 2048, False), (4, 2048, True), (4, 1016, False), (12, 2048, True)]
)
def test_without_an_amd_processor_one_product_serves_few_rows_and_small_weights(
    rows, width, cut, by_blocks, monkeypatch
):
    monkeypatch.setattr(skinny_linear, "on_amd", lambda: False)
    with torch.no_grad():
        skinny_linear.through(nn.Linear(width, ROWS), torch.ones(rows, width))
    assert bool(by_blocks) == cut


def test_one_thread_autocast_and_gradients_take_the_plain_product(by_blocks):
    x, layer = torch.randn(1, WIDTH), nn.Linear(WIDTH, ROWS)
    skinny_linear.through(layer, x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert skinny_linear.through(layer, x).dtype == torch.bfloat16
    torch.set_num_threads(1)
    with torch.no_grad():
        skinny_linear.through(layer, x)
    assert not by_blocks


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Twice(nn.Module):
    def forward(self, weight):
        return 2 * weight


CHANGES = {
    "forward": lambda layer: setattr(layer, "forward", lambda x: 2 * F.linear(x, layer.weight)),
    "hook": lambda layer: layer.register_forward_hook(lambda _, args, output: 2 * output),
    "pre-hook": lambda layer: layer.register_forward_pre_hook(lambda _, args: (2 * args[0],)),
    "subclass": lambda layer: setattr(layer, "__class__", Doubled),
    "parametrisation": lambda layer: register_parametrization(layer, "weight", Twice()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("path", ["attention.project_in", "attention.project_out", "inner.expand", "inner.contract"])
@torch.no_grad()
def test_a_changed_layer_is_called(path, change):
    width = 768
    parts = nn.ModuleDict({"attention": MultiHeadAttention(width, 4, bias=False)})
    parts["inner"] = FeedForward(width, width, bias=False)
    x = torch.randn(1, 1, width)
    name = path.split(".")[0]
    before = parts[name](x)
    CHANGES[change](parts.get_submodule(path))
    with kernels.disabled():
        expected = parts[name](x)
    assert not torch.allclose(expected, before)
    assert_close(parts[name](x), expected)


def test_a_class_with_another_forward_is_obeyed(monkeypatch):
    layer, x = nn.Linear(WIDTH, ROWS, bias=False), torch.randn(1, WIDTH)
    monkeypatch.setattr(nn.Linear, "forward", lambda layer, x: 2 * F.linear(x, layer.weight))
    with torch.no_grad():
        assert_close(skinny_linear.through(layer, x), 2 * F.linear(x, layer.weight))


def models():
    pair = {"source_vocab_size": 31, "target_vocab_size": ROWS}
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    gpt = GPTConfig(vocab_size=ROWS, d_model=WIDTH, num_heads=4, num_layers=1, max_length=16, eos_id=0)
    transformer = TransformerConfig(**pair, **layers, d_model=WIDTH, num_heads=4, d_ff=1024)
    rnn = RNNConfig(**pair, d_model=WIDTH, hidden_size=WIDTH, attention="additive")
    return {"gpt": lambda: GPT(gpt), "transformer": lambda: Transformer(transformer), "rnn": lambda: RNNSeq2Seq(rnn)}


@pytest.mark.parametrize("name", models())
def test_beam_search_with_blocks_finds_the_same(name, by_blocks):
    model, inputs = models()[name]().eval(), torch.randint(4, 30, (2, 5))
    found = beam_search(model, inputs, max_new_tokens=4, beam_size=3)
    assert by_blocks
    with kernels.disabled("skinny_linear"):
        expected = beam_search(model, inputs, max_new_tokens=4, beam_size=3)
    for row, other in zip(found, expected, strict=True):
        assert row[0].ids == other[0].ids and abs(row[0].score - other[0].score) < 1e-5
