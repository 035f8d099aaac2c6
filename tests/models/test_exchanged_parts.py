"""`save` and `export` refuse a model in which something was exchanged that config.json does not say."""

import pytest
import torch
from helpers_kinds import KINDS, OwnEncoder, bert, classifier
from helpers_models import fresh_gpt, tiny_rnn, tiny_transformer
from torch import nn
from torch.nn.utils import parametrizations

import minitransformer
from minitransformer import GPT, EncoderBlock, InputError, Rotary


def put(path, value):
    """Sets what stands at "a.b.0.c" of a model."""

    def change(model):
        *parents, last = path.split(".")
        owner = model
        for name in parents:
            owner = owner[int(name)] if name.isdigit() else getattr(owner, name)
        made = value(owner) if callable(value) and getattr(value, "__name__", "") == "<lambda>" else value
        if last.isdigit():
            owner[int(last)] = made
        else:
            setattr(owner, last, made)

    return change


class Scaled(GPT):
    """Buffers that are not saved: one of values, one of what `torch.empty` makes, one that depends on a weight."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("scale", torch.tensor([1.0, 2.0]), persistent=False)
        self.register_buffer("filled", torch.empty(2).fill_(3.0), persistent=False)


class Summed(Scaled):
    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("total", torch.ones(16) + 0 * self.embedding.weight.sum(dim=0).detach(), persistent=False)


def made(kind):
    return lambda: kind(fresh_gpt("alibi").config)


def in_place(path):
    return lambda model: model.get_buffer(path).mul_(2)


EXCHANGES = {
    "an activation": (fresh_gpt, put("decoder.layers.0.feed_forward.activation", torch.sin), "feed_forward.activation"),
    "an activation module": (fresh_gpt, put("decoder.layers.1.feed_forward.activation", nn.Mish()), "activation"),
    "a norm": (bert, put("encoder.layers.0.attention_residual.norm", nn.RMSNorm(16)), "attention_residual.norm"),
    "a block": (fresh_gpt, put("decoder.layers.0", EncoderBlock(16, 4, 64, causal=True)), "decoder.layers.0"),
    "a shared layer": (fresh_gpt, put("decoder.layers.0", lambda layers: layers[1]), "decoder.layers.1"),
    "one layer more": (fresh_gpt, lambda model: model.decoder.layers.append(nn.Identity()), "decoder.layers.2"),
    "one layer less": (tiny_transformer, lambda model: model.decoder.layers.pop(1), "decoder.layers.1"),
    "no final norm": (fresh_gpt, put("decoder.final_norm", None), "decoder.final_norm"),
    "an output of its own": (fresh_gpt, put("output.weight", nn.Parameter(torch.ones(13, 16))), "output.weight"),
    "a larger vocabulary": (tiny_transformer, put("source_embedding", nn.Embedding(20, 16)), "source_embedding"),
    "a position scheme": (fresh_gpt, put("decoder.layers.0.attention.positions", Rotary(4)), "attention.positions"),
    "a rate of dropout": (bert, put("dropout.p", 0.5), "dropout.p"),
    "an epsilon": (bert, put("embedding_norm.eps", 0.5), "embedding_norm.eps"),
    "a replaced forward": (fresh_gpt, put("decoder.forward", torch.sin), "decoder.forward"),
    "a replaced method": (fresh_gpt, put("encode", torch.sin), "encode"),
    "a parametrisation": (fresh_gpt, lambda model: parametrizations.weight_norm(model.output), "output"),
    "a cell": (tiny_rnn, lambda model: setattr(model.decoder.rnn.cells[0], "__class__", EncoderBlock), "rnn.cells.0"),
    "a pooling": (lambda: classifier(bert), put("pooling", KINDS["gpt classifier"]().pooling), "pooling"),
    "an encoder's part": (lambda: classifier(bert), put("encoder.dropout", nn.Identity()), "encoder.dropout"),
    "an encoder": (lambda: classifier(bert), put("encoder", fresh_gpt()), "encoder"),
    "slopes": (lambda: fresh_gpt("alibi"), in_place("decoder.layers.1.attention.positions.slopes"), "positions.slopes"),
    "a classifier's slopes": (
        lambda: classifier(lambda: fresh_gpt("alibi")),
        in_place("encoder.decoder.layers.1.attention.positions.slopes"),
        "positions.slopes",
    ),
    **{
        f"a buffer {name} of {kind.__name__}": (made(kind), in_place(name), name)
        for kind, name in ((Scaled, "scale"), (Scaled, "filled"), (Summed, "total"))
    },
    "a buffer removed": (made(Scaled), lambda model: delattr(model, "scale"), "scale"),
    "a forward in an encoder of one's own": (
        KINDS["classifier of one's own encoder"],
        put("encoder.table.forward", torch.sin),
        "encoder.table.forward",
    ),
    "a method of an encoder of one's own": (
        KINDS["classifier of one's own encoder"],
        put("encoder.encode", torch.sin),
        "encoder.encode",
    ),
    "a head over an encoder of one's own": (
        KINDS["classifier of one's own encoder"],
        put("output", nn.Sequential(nn.Linear(6, 3))),
        "output",
    ),
}


def test_an_option_changed_inside_an_encoder_of_ones_own_is_said(tmp_path, recwarn):
    model = KINDS["classifier of one's own encoder"]()
    model.encoder.rate = 0.5  # new: it is no option that the encoder had
    model.save(tmp_path)
    assert not recwarn
    model.encoder.table.padding_idx = 1
    with pytest.warns(
        UserWarning, match=r"changed since the classifier was made .* table.padding_idx=None, now 1: change"
    ):
        model.save(tmp_path)


@pytest.mark.parametrize("what", EXCHANGES)
def test_what_save_would_lose_is_refused(what, tmp_path):
    build, exchange, name = EXCHANGES[what]
    model = build()
    exchange(model)
    with pytest.raises(InputError, match=r"config\.json cannot say .*" + name.replace(".", r"\.")):
        model.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_class_with_the_name_of_its_base_is_refused(tmp_path):
    kind = type("GPT", (GPT,), {})
    with pytest.raises(InputError, match="has the name of its base class"):
        kind(fresh_gpt().config).save(tmp_path / "saved")


def test_what_export_would_lose_is_refused(tmp_path):
    for model in (GPT.from_config(fresh_gpt().config), bert()):
        part = model.decoder if isinstance(model, GPT) else model.encoder
        part.layers[0].feed_forward.activation = torch.sin
        with pytest.raises(InputError, match="activation"):
            model.export(tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


BUFFERED = {kind.__name__: made(kind) for kind in (GPT, Scaled, Summed)}


@pytest.mark.parametrize("name", [*KINDS, *BUFFERED])
def test_models_as_they_are_made_are_saved(name, tmp_path):
    model = (KINDS | BUFFERED)[name]().train()
    model.register_buffer("scratch", torch.ones(3), persistent=False)  # nothing that a configuration describes
    for part in model.modules():
        part.register_forward_hook(lambda *_: None)
    model.a_note_of_its_user = "1"
    model.requires_grad_(False)
    before = torch.get_rng_state()
    model.save(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_and_equal_parts_may_be_exchanged(tmp_path):
    model, other = fresh_gpt(), fresh_gpt(activation="gelu_tanh")
    with torch.no_grad():
        other.decoder.layers[0].feed_forward.expand.weight.mul_(3)
    model.decoder.layers[0] = other.decoder.layers[0]
    ids = torch.tensor([[1, 2, 3]])
    model.save(tmp_path)
    assert torch.equal(minitransformer.load(tmp_path)(ids), model(ids))


def test_an_encoder_of_ones_own_keeps_what_is_in_it(tmp_path):
    model = classifier(OwnEncoder, d_model=6)
    model.encoder.table.weight.data.mul_(2)
    model.encoder.anything = nn.Mish()
    model.save(tmp_path)
