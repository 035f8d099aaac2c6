from functools import partial

import pytest
import torch
from helpers_bert import ours_of
from helpers_checkpoints import edit_config, edit_tensors, refused
from helpers_models import (
    A_FEW_MODELS,
    TARGET_VOCAB,
    assert_close,
    batch_of,
    built,
    fresh_gpt,
    sources,
    targets,
    tiny_rnn,
    tiny_transformer,
)
from safetensors.torch import load_file

import minitransformer
from minitransformer import BERT, GPT, InputError, RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig

SHARED = {"share_embeddings": True, "source_vocab_size": TARGET_VOCAB}


@pytest.mark.parametrize("build", A_FEW_MODELS)
@pytest.mark.parametrize("load", ["its class", "the package"])
def test_a_loaded_model_gives_the_same_bits(build, load, tmp_path):
    model, folder = build(dropout=0.5, label_smoothing=0.25).train(), tmp_path / "run" / "model"
    assert model.save(str(folder)) == folder
    assert model.training
    model.eval()
    loaded = (minitransformer if load == "the package" else type(model)).load(str(folder))
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not any(module.training for module in loaded.modules())
    [row], target = sources(model, 5), targets(model, 1, 4)
    assert torch.equal(loaded(row[None], target), model(row[None], target))


def test_saving_again_replaces_what_was_there(tmp_path):
    tiny_rnn().save(tmp_path)
    model = tiny_transformer()
    model.save(tmp_path)
    assert torch.equal(minitransformer.load(tmp_path).output.weight, model.output.weight)


@pytest.mark.parametrize(
    ("build", "not_saved"),
    [
        (partial(tiny_transformer), 1),
        (partial(tiny_transformer, tie_output=False), 0),
        (partial(tiny_transformer, **SHARED), 2),
        (partial(tiny_transformer, tie_output=False, **SHARED), 1),
        (partial(tiny_transformer, tie_output=False, positions="relative"), 1),
        (partial(tiny_rnn, attention="additive"), 0),
        (partial(tiny_rnn, attention="additive", tie_output=True), 1),
        (fresh_gpt, 1),
        (partial(fresh_gpt, tie_output=False), 0),
        (ours_of, 1),
        (partial(ours_of, "RoBERTa"), 1),
        (partial(ours_of, "ALBERT"), 37),  # of the layers, three are the first one
    ],
)
def test_shared_tensors_are_saved_once_and_still_shared_when_loaded(build, not_saved, tmp_path):
    model = build()
    model.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert len(saved) == len(model.state_dict()) - not_saved
    assert sum(tensor.numel() for tensor in saved.values()) == model.num_parameters()

    loaded = minitransformer.load(tmp_path)
    assert loaded.num_parameters() == model.num_parameters()
    assert same_tensors(loaded) == same_tensors(model)

    # Shared in training too: after a step the two still agree.
    ids = torch.tensor([[2, 5, 6, 3]])
    batch = {"ids": ids, "targets": ids} if isinstance(model, GPT | BERT) else batch_of(model)
    for each in (model, loaded):
        sum(loss.total for loss in each.loss(batch).values()).backward()
        torch.optim.SGD(each.parameters(), lr=0.01).step()
    for ours, theirs in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert_close(theirs, ours)


def same_tensors(model):
    """The names of each parameter that has several."""
    names = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_model_is_saved_like_any_other(in_place, tmp_path):
    model = tiny_rnn()
    names = set(model.state_dict())
    if in_place:
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")
    model.save(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == names
    [row], target = sources(model, 3), targets(model, 1, 2)
    assert torch.equal(RNNSeq2Seq.load(tmp_path)(row[None], target), tiny_rnn()(row[None], target))


# What can be wrong with a folder


def halved(tensors, value):
    embedding = tensors["target_embedding.weight"].half()
    embedding[2, 3] = value
    return {"target_embedding.weight": embedding}


def truncate(path, length):
    path.write_bytes(path.read_bytes()[:length])


WRONG = {
    "no config.json": (lambda f: (f / "config.json").unlink(), ["has no config.json"]),
    "invalid JSON": (lambda f: (f / "config.json").write_text("{d_model: 64}"), ["config.json", "not valid JSON"]),
    "a list": (lambda f: (f / "config.json").write_text("[1, 2]"), ["config.json", "list"]),
    "unknown field": (lambda f: edit_config(f, heads=4, size=1), ["TransformerConfig has no heads, size", "num_heads"]),
    "missing field": (lambda f: edit_config(f, source_vocab_size=...), ["TransformerConfig needs source_vocab_size"]),
    "mistyped size": (lambda f: edit_config(f, d_model="16"), ["d_model='16'"]),
    "impossible sizes": (lambda f: edit_config(f, num_heads=3), ["d_model=16 is not divisible by num_heads=3"]),
    "none of ours": (lambda f: edit_config(f, model="bert"), ["'bert'", "Transformer, RNNSeq2Seq"]),
    "model no name": (lambda f: edit_config(f, model=["Transformer"]), ["['Transformer']", "Transformer, RNNSeq2Seq"]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["no model.safetensors"]),
    "weights cut in the header": (lambda f: truncate(f / "model.safetensors", 100), ["model.safetensors"]),
    "weights cut in a tensor": (lambda f: truncate(f / "model.safetensors", -4), ["model.safetensors"]),
    "another shape": (lambda f: edit_config(f, d_ff=25), ["model.safetensors", "(24, 16)", "(25, 16)"]),
    "a layer too few": (lambda f: edit_config(f, num_decoder_layers=3), ["model.safetensors", "decoder.layers.2"]),
    "a layer too many": (lambda f: edit_config(f, num_decoder_layers=1), ["model.safetensors", "decoder.layers.1"]),
    "a weight that is NaN": (
        lambda f: edit_tensors(f, lambda t: t["encoder.layers.0.feed_forward.expand.weight"][3].fill_(float("nan"))),
        ["model.safetensors: 16 of the 384 numbers of encoder.layers.0.feed_forward.expand.weight are NaN or infinite"],
    ),
    "a weight that is infinite, in half precision": (
        lambda f: edit_tensors(f, lambda t: t.update(halved(t, float("-inf")))),
        ["model.safetensors: 1 of the", "numbers of target_embedding.weight are NaN or infinite"],
    ),
    "another name": (
        lambda f: edit_tensors(f, lambda t: t.update(head=t.pop("source_embedding.weight"))),
        ["model.safetensors", "head", "source_embedding.weight"],
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_folder_that_holds_no_such_model_is_refused_in_one_line(wrong, tmp_path, as_users_run_it):
    refused(WRONG, wrong, built(tiny_transformer).save(tmp_path / "model"), minitransformer.load)


def test_numbers_whose_sum_overflows_are_finite(tmp_path):
    model = built(tiny_transformer)
    model.save(tmp_path)
    edit_tensors(tmp_path, lambda tensors: tensors["target_embedding.weight"].fill_(3e38))
    assert (Transformer.load(tmp_path).target_embedding.weight == 3e38).all()


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere is not a saved model: it does not exist"):
        minitransformer.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("{}")
    with pytest.raises(InputError, match=r"file is not a saved model"):
        Transformer.load(tmp_path / "file")


def test_a_class_loads_its_own_models_only(tmp_path):
    tiny_rnn().save(tmp_path)
    with pytest.raises(InputError, match=rf"{tmp_path.name} does not hold a Transformer"):
        Transformer.load(tmp_path)


def test_a_setting_left_out_has_its_default():
    assert TransformerConfig.from_dict({"source_vocab_size": 5, "target_vocab_size": 6}) == TransformerConfig(5, 6)
    assert RNNConfig.from_dict({"source_vocab_size": 5, "target_vocab_size": 6}) == RNNConfig(5, 6)
