"""Hugging Face checkpoints against transformers, which writes what we read and reads what we write."""

import json
import pickle
import warnings
from dataclasses import replace

import huggingface_hub
import jaxtyping
import pytest
import torch
from helpers_checkpoints import edit_config, edit_tensors, refused
from helpers_models import nudged
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Model

from minitransformer import GPT, GPTConfig, InputError
from minitransformer.pretrained import checkpoint_folder
from minitransformer.tokenization import train_byte_bpe_tokenizer, train_character_tokenizer

SIZES = {"vocab_size": 11, "n_positions": 9, "n_embd": 12, "n_head": 3, "n_layer": 2, "eos_token_id": 10}
OURS = {"vocab_size": 11, "max_length": 9, "d_model": 12, "num_heads": 3, "num_layers": 2, "eos_id": 10}
VARIANTS = {
    "GPT-2": {},
    "untied": {"tie_word_embeddings": False},
    "five heads": {"n_embd": 10, "n_head": 5, "n_layer": 1},
    "narrow": {"n_inner": 7, "n_head": 1},
    "epsilon": {"layer_norm_epsilon": 0.1},
    "erf": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu", "attn_pdrop": 0.0},
    "tanh": {"activation_function": "gelu_pytorch_tanh"},
}


def theirs_of(**changes):
    """A random GPT-2 whose biases and norms are not zeros and ones, large enough for activations to differ."""
    return nudged(GPT2LMHeadModel(GPT2Config(**SIZES | changes)), 0.4).eval()


def ours_of(**changes):
    return nudged(GPT(GPTConfig(**OURS | changes)), 0.4).eval()


GPT2_NAMES = {
    "attention.project_in": "attn.c_attn",
    "attention.project_out": "attn.c_proj",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.contract": "mlp.c_proj",
    "attention_residual.norm": "ln_1",
    "feed_forward_residual.norm": "ln_2",
}


def gpt2_counterparts(ours, theirs):
    """(ours, theirs, whether theirs is transposed) of each parameter of a GPT and a `GPT2LMHeadModel`."""
    body = theirs.transformer
    yield ours.embedding.weight, body.wte.weight, False
    yield ours.positions.embedding.weight, body.wpe.weight, False
    yield ours.decoder.final_norm.weight, body.ln_f.weight, False
    yield ours.decoder.final_norm.bias, body.ln_f.bias, False
    for layer, block in zip(ours.decoder.layers, body.h, strict=True):
        for our_name, their_name in GPT2_NAMES.items():
            mine, other = layer.get_submodule(our_name), block.get_submodule(their_name)
            yield mine.weight, other.weight, other.weight.dim() == 2  # their Conv1D is (in, out)
            yield mine.bias, other.bias, False


def assert_same_logits(ours, theirs):
    ids, valid = torch.randint(11, (3, 7)), torch.arange(7) < torch.tensor([[7], [4], [1]])
    logits, expected = ours(ids, valid)[valid], theirs(ids, attention_mask=valid.long()).logits[valid]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    return logits, expected


def as_pickle(folder, value=None):
    value = load_file(folder / "model.safetensors") if value is None else value
    torch.save(value, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


# Reading


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_read_checkpoint_has_the_logits_and_gradients_of_transformers(variant, tmp_path):
    theirs = theirs_of(**VARIANTS[variant])
    theirs.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path)
    assert not ours.training
    assert (ours.output.weight is ours.embedding.weight) is (variant != "untied")
    logits, expected = assert_same_logits(ours, theirs)
    upstream = torch.randn_like(logits)
    (logits * upstream).sum().backward()
    (expected * upstream).sum().backward()
    for mine, other, transposed in gpt2_counterparts(ours, theirs):
        torch.testing.assert_close(mine.grad, other.grad.T if transposed else other.grad, rtol=1e-4, atol=1e-4)


def test_every_setting_is_read(tmp_path):
    GPT2LMHeadModel(
        GPT2Config(**SIZES, n_inner=5, attn_pdrop=0.3, resid_pdrop=0.2, embd_pdrop=0.2, layer_norm_epsilon=0.5)
    ).save_pretrained(tmp_path)
    expected = GPTConfig(**OURS, d_ff=5, dropout=0.2, attention_dropout=0.3, norm_eps=0.5)
    assert GPT.from_pretrained(str(tmp_path)).config == expected


def test_a_setting_left_out_has_the_value_it_has_in_transformers(tmp_path):
    theirs = theirs_of(n_head=12)
    theirs.save_pretrained(tmp_path)
    config = {"model_type": "gpt2", "vocab_size": 11, "n_positions": 9, "hidden_size": 12, "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": 0}), encoding="utf-8")
    assert_same_logits(GPT.from_pretrained(tmp_path), theirs)


def shards(folder, theirs):
    theirs.save_pretrained(folder, max_shard_size="3KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def pickled(folder, theirs):
    theirs.save_pretrained(folder)
    as_pickle(folder)


def pickled_shards(folder, theirs):
    theirs.save_pretrained(folder)
    tensors = list(load_file(folder / "model.safetensors").items())
    for file, part in {"a.bin": tensors[:5], "b.bin": tensors[5:]}.items():
        torch.save(dict(part), folder / file)
    weight_map = {name: "a.bin" if i < 5 else "b.bin" for i, (name, _) in enumerate(tensors)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    (folder / "model.safetensors").unlink()


def bare(folder, theirs):
    theirs.transformer.save_pretrained(folder)
    assert not any(name.startswith("transformer.") for name in load_file(folder / "model.safetensors"))


def with_masks(folder, theirs):
    theirs.save_pretrained(folder)
    masks = {"bias": torch.ones(1, 1, 9, 9).tril().bool(), "masked_bias": torch.tensor(-1e4)}
    edit_tensors(folder, lambda t: t.update({f"transformer.h.1.attn.{name}": mask for name, mask in masks.items()}))


def with_head(folder, theirs):
    theirs.save_pretrained(folder)
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"].clone()}))


def head_alone(folder, theirs):
    theirs.save_pretrained(folder)
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": t.pop("transformer.wte.weight")}))


@pytest.mark.parametrize("write", [shards, pickled, pickled_shards, bare, with_masks, with_head, head_alone])
def test_every_layout_of_a_checkpoint_is_read(write, tmp_path):
    theirs = theirs_of()
    write(tmp_path, theirs)
    assert_same_logits(GPT.from_pretrained(tmp_path), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_checkpoint_of_other_floats_is_read_as_float32(dtype, tmp_path):
    theirs = theirs_of().to(dtype)
    theirs.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    assert_same_logits(ours, theirs.float())


def test_an_embedding_dropout_of_its_own_is_said_to_be_lost(tmp_path):
    GPT2LMHeadModel(GPT2Config(**SIZES, resid_pdrop=0.1, embd_pdrop=0.3)).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"resid_pdrop=0.1, not embd_pdrop=0.3"):
        GPT.from_pretrained(tmp_path)


# What can be wrong with a checkpoint


class Malicious:
    def __reduce__(self):
        return print, ("this must not run",)


def index_of(folder, content):
    (folder / "model.safetensors").rename(folder / "shard.safetensors")
    content = content if isinstance(content, str) else json.dumps({"weight_map": content})
    (folder / "model.safetensors.index.json").write_text(content, encoding="utf-8")


def without_prefix(name):
    return lambda f: edit_tensors(f, lambda t: t.update({name.removeprefix("transformer."): t.pop(name)}))


WTE, C_FC = "transformer.wte.weight", "transformer.h.1.mlp.c_fc.weight"
ESCAPE = "../outside.safetensors"
WRONG = {
    "no config": (lambda f: (f / "config.json").unlink(), ["has no config.json"]),
    "broken config": (lambda f: (f / "config.json").write_text("{"), ["not valid JSON"]),
    "another architecture": (lambda f: edit_config(f, model_type="bert"), ["of 'bert'", "GPT reads 'gpt2'"]),
    "one of ours": (lambda f: (f / "config.json").write_text('{"model": "GPT"}'), ["read it with GPT.load"]),
    "mistyped": (lambda f: edit_config(f, n_embd="12"), ["config.json: n_embd='12' must be of type int"]),
    "no end": (lambda f: edit_config(f, eos_token_id=None), ["eos_token_id=None must be of type int"]),
    "end elsewhere": (lambda f: edit_config(f, eos_token_id=11), ["eos_token_id=11 is no id in a vocabulary of 11"]),
    "activation": (lambda f: edit_config(f, activation_function="silu"), ["'silu' must be one of gelu_new"]),
    "unscaled": (lambda f: edit_config(f, scale_attn_weights=False), ["scale_attn_weights=False"]),
    "layer scale": (lambda f: edit_config(f, scale_attn_by_inverse_layer_idx=True), ["by_inverse_layer_idx=True"]),
    "cross-attention": (lambda f: edit_config(f, add_cross_attention=True), ["add_cross_attention=True"]),
    "impossible": (lambda f: edit_config(f, n_head=5), ["d_model=12 is not divisible by num_heads=5"]),
    "too big": (lambda f: edit_config(f, n_embd=3 * 10**6), ["18,000,060,000,000 parameters or more"]),
    "bigger": (lambda f: edit_config(f, n_embd=3 * 10**18), ["must be at most 1099511627776"]),
    "biggest": (lambda f: edit_config(f, n_embd=3 * 10**30), ["must be at most 1099511627776"]),
    "deep": (lambda f: edit_config(f, n_layer=10**9), ["1,000,000,000 layers or more"]),
    "a layer more": (
        lambda f: edit_config(f, n_layer=1),
        ["in 12 tensors", "h.1.ln_1.bias is not in the model", "; and 2 more"],
    ),
    "a layer less": (lambda f: edit_config(f, n_layer=3), ["h.2.ln_1.weight is missing", "; and 2 more"]),
    "no head": (lambda f: edit_config(f, tie_word_embeddings=False), ["lm_head.weight is missing"]),
    "half a prefix": (
        without_prefix(WTE),
        [f"does not fit the model in 2 tensors: {WTE} is missing; wte.weight is"],
    ),
    "transposed": (
        lambda f: edit_tensors(f, lambda t: t.update({C_FC: t[C_FC].T.contiguous()})),
        [f"does not fit the model in 1 tensors: {C_FC} has shape (48, 12), not (12, 48)"],
    ),
    "whole numbers": (
        lambda f: edit_tensors(f, lambda t: t.update({C_FC: t[C_FC].to(torch.int8)})),
        ["c_fc.weight holds torch.int8, not floats"],
    ),
    "infinite": (
        lambda f: edit_tensors(f, lambda t: t[C_FC][0].fill_(float("inf"))),
        [f"48 of the 576 numbers of {C_FC} are NaN or infinite"],
    ),
    "two heads": (
        lambda f: edit_tensors(f, lambda t: t.update({"lm_head.weight": -t[WTE]})),
        [f"lm_head.weight differs from {WTE}", '"tie_word_embeddings": false'],
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["no weights", "model.safetensors", "pytorch_model"]),
    "cut off": (lambda f: (f / "model.safetensors").write_bytes(b"\x08"), ["model.safetensors is damaged"]),
    "pickle": (lambda f: as_pickle(f, {WTE: Malicious()}), ["pytorch_model.bin is refused", "can run any code"]),
    "old pickle": (
        lambda f: (as_pickle(f), (f / "pytorch_model.bin").write_bytes(pickle.dumps({WTE: Malicious()}, protocol=2))),
        ["refused"],
    ),
    "junk": (lambda f: (as_pickle(f), (f / "pytorch_model.bin").write_bytes(b"junk")), ["refused: it is damaged"]),
    "other pickle": (lambda f: as_pickle(f, {"model": {WTE: torch.ones(1)}}), ["does not hold tensors by name"]),
    "index": (lambda f: index_of(f, "[]"), ["index.json is not an index of shards"]),
    "index of lists": (lambda f: index_of(f, {WTE: ["a"]}), ["does not give each tensor a file"]),
    "missing shard": (lambda f: index_of(f, {WTE: "b.safetensors"}), ["is incomplete: it has no b.safetensors"]),
    "half an index": (
        lambda f: index_of(f, dict.fromkeys([WTE, C_FC], "shard.safetensors")),
        ["in 26 tensors", "wpe.weight is missing"],
    ),
    "a shard outside": (lambda f: index_of(f, {WTE: ESCAPE}), [f"names '{ESCAPE}', which is not the name of a file"]),
    "an absolute path": (lambda f: index_of(f, {WTE: str(f / "shard.safetensors")}), ["not the name of a file beside"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_checkpoint_is_refused_in_one_line(wrong, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users run without it
    theirs_of().save_pretrained(tmp_path / "gpt2")
    refused(WRONG, wrong, tmp_path / "gpt2", GPT.from_pretrained)
    assert "this must not run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["./gpt2", "~/gpt2", "runs/a/gpt2", "/gpt2", "a b", "../gpt2"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(name, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    with pytest.raises(InputError, match="no such folder"):
        GPT.from_pretrained(name)


# The hub


class Hub:
    """Stands in for the network: `model_info` succeeds or raises `answer`, and the cache is an empty folder."""

    def __init__(self, monkeypatch, cache, answer=None):
        self.answer, self.asked, self.downloads = answer, [], []
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", self.model_info)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))

    def model_info(self, repository, *, timeout):
        self.asked.append((repository, timeout))
        if self.answer is not None:
            raise self.answer

    def download(self, repository, **options):
        self.downloads.append((repository, options))
        return self.folder


@pytest.mark.parametrize("name", ["gpt2", "owner/a-model_1.5"])
def test_without_a_network_a_hub_id_is_refused_after_one_question(name, tmp_path, monkeypatch):
    hub = Hub(monkeypatch, tmp_path, ConnectionError("Name or service\nnot known"))
    with pytest.raises(InputError, match=r"\(Name or service not known\).*give the path of a folder") as refusal:
        GPT.from_pretrained(name)
    assert str(refusal.value).startswith(f"{name} is not a folder")
    assert [asked for asked, timeout in hub.asked if timeout <= 10] == [name]


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "unreachable"])
def test_without_the_hub_a_model_in_its_cache_is_read(offline, tmp_path, monkeypatch):
    theirs = theirs_of()
    cached = tmp_path / "models--owner--gpt"  # as a download leaves it
    theirs.save_pretrained(cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    if offline:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    else:
        Hub(monkeypatch, tmp_path, ConnectionError("unreachable"))
    assert_same_logits(GPT.from_pretrained("owner/gpt"), theirs)
    if offline:
        with pytest.raises(InputError, match=r"offline mode is enabled.*give the path of a folder"):
            GPT.from_pretrained("gpt2")


def test_from_the_hub_come_settings_tokenizer_and_safetensors_only(tmp_path, monkeypatch):
    theirs = theirs_of()
    theirs.save_pretrained(tmp_path)
    hub = Hub(monkeypatch, tmp_path)
    hub.folder = str(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.download)
    assert_same_logits(GPT.from_pretrained("gpt2"), theirs)
    [(repository, options)] = hub.downloads
    assert repository == "gpt2"
    assert not options["local_files_only"]
    on_the_hub = [
        *("config.json", "tokenizer.json", "model.safetensors", "model-00001-of-00002.safetensors"),
        *("model.safetensors.index.json", "pytorch_model.bin", "onnx/model.safetensors", "modeling.py", "tf_model.h5"),
    ]
    assert (
        list(huggingface_hub.utils.filter_repo_objects(on_the_hub, allow_patterns=options["allow_patterns"]))
        == (on_the_hub[:5])
    )


def test_a_local_folder_comes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    (tmp_path / "gpt2").mkdir()
    assert checkpoint_folder("gpt2").samefile(tmp_path / "gpt2")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: give the folder"):
        checkpoint_folder("file")


# Writing


EXPORTED = {
    "GPT-2": {},
    "untied": {"tie_output": False},
    "five heads": {"d_model": 10, "num_heads": 5, "num_kv_heads": 5, "num_layers": 1},
    "narrow": {"d_ff": 7},
    "epsilon": {"norm_eps": 0.1, "dropout": 0.25, "attention_dropout": 0.5},
    "erf": {"activation": "gelu"},
    "relu": {"activation": "relu"},
}


@pytest.mark.parametrize("variant", EXPORTED)
def test_transformers_reads_an_export_with_the_same_logits_and_we_with_the_same_bits(variant, tmp_path):
    ours, folder = ours_of(**EXPORTED[variant]), tmp_path / "new" / "gpt2"
    assert ours.export(str(folder)) == folder
    theirs, report = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert_same_logits(ours, theirs)
    assert theirs.num_parameters() == ours.num_parameters()
    assert theirs.transformer.drop.p == theirs.config.resid_pdrop == ours.config.dropout

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = GPT.from_pretrained(folder)
    # The format does not tell num_kv_heads=num_heads from the default.
    assert again.config == replace(ours.config, num_kv_heads=None)
    mine, other = ours.state_dict(), again.state_dict()
    assert list(mine) == list(other)
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_an_export_has_the_settings_and_tensors_that_transformers_would_write(tmp_path):
    theirs = theirs_of()
    theirs.save_pretrained(tmp_path / "theirs")
    GPT.from_pretrained(tmp_path / "theirs").export(tmp_path / "ours")
    mine, other = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    mine, other = (json.loads((tmp_path / name / "config.json").read_text("utf-8")) for name in ("ours", "theirs"))
    assert mine.pop("bos_token_id") == mine["eos_token_id"]  # theirs is GPT-2's, beyond this vocabulary
    assert mine == {name: other[name] for name in mine}
    with safe_open(tmp_path / "ours" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}  # older versions ask for it
    assert GPT2Model.from_pretrained(tmp_path / "ours").dtype == torch.float32


def test_a_model_of_bfloat16_is_exported_as_that(tmp_path):
    ours = ours_of().bfloat16()
    assert GPT2LMHeadModel.from_pretrained(ours.export(tmp_path)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"positions": "rotary", "num_heads": 6}, "positions='rotary'"),
        ({"norm": "rmsnorm"}, "norm='rmsnorm'"),
        ({"bias": False, "qk_norm": True}, "bias=False, qk_norm=True"),
        ({"activation": "swiglu"}, "activation='swiglu'"),
        ({"activation": "relu_squared"}, "activation='relu_squared'"),
        ({"num_kv_heads": 1}, "num_kv_heads=1"),
        ({"logit_softcap": 5.0}, "logit_softcap=5.0"),
    ],
)
def test_a_model_that_is_no_gpt2_is_not_exported(changes, says, tmp_path):
    with pytest.raises(InputError, match=f"GPT-2's format cannot express {says}: keep the model with save"):
        ours_of(**changes).export(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_export_replaces_another_export_but_no_saved_model(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    ours_of(d_ff=5).export(tmp_path)
    ours = ours_of()
    ours.export(tmp_path)
    assert GPT.from_pretrained(tmp_path).config == ours.config
    files = ["README.md", "config.json", "generation_config.json", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    ours.save(tmp_path)
    with pytest.raises(InputError, match="which would be lost: export elsewhere"):
        ours.export(tmp_path)
    assert GPT.load(tmp_path).config == ours.config


# The tokenizer of an export

TEXTS = ["To be, or not to be : that is the question.", "  I 'd say [PAD] [EOS]\n\tyes . "]


@pytest.mark.parametrize("train", [train_character_tokenizer, lambda texts: train_byte_bpe_tokenizer(texts, 290)])
def test_transformers_reads_the_tokenizer_of_an_export(train, tmp_path):
    tokenizer = train(TEXTS)
    pad, end = (tokenizer.token_to_id(token) for token in ("[PAD]", "[EOS]"))
    ours = ours_of(vocab_size=300, eos_id=end)
    ours.export(tmp_path, tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert theirs(text).input_ids == ids  # without [EOS]: the text is to be continued
        assert theirs.decode(ids) == text
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.bos_token_id) == (pad, end, end)
    assert theirs.model_max_length == 9
    assert tokenizer.encode("be").tokens[-1] == "[EOS]"  # ours is as it was

    model = GPT2LMHeadModel.from_pretrained(tmp_path)
    settings = model.generation_config
    assert (settings.pad_token_id, settings.eos_token_id, settings.bos_token_id) == (pad, end, end)
    assert model.generate(**theirs("be", return_tensors="pt"), max_new_tokens=2, do_sample=False).shape[0] == 1


def test_the_tokenizer_of_gpt2_is_exported_as_it_is(tmp_path):
    """GPT-2's own has one special token, an added one, which a text may name."""
    tokenizer = train_byte_bpe_tokenizer(TEXTS, 290)
    tokenizer.post_processor = None
    tokenizer.add_special_tokens(["<|endoftext|>"])
    end = tokenizer.token_to_id("<|endoftext|>")
    ours_of(vocab_size=tokenizer.get_vocab_size(), eos_id=end).export(tmp_path, tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = "to be<|endoftext|>or not"
    assert (
        theirs(text).input_ids
        == tokenizer.encode(text).ids
        == Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids
    )
    assert end in theirs(text).input_ids
    assert theirs.eos_token == "<|endoftext|>"


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path):
    tokenizer = train_character_tokenizer(TEXTS)
    with pytest.raises(InputError, match=r"the tokenizer has ids up to \d+, the model only vocab_size=11"):
        ours_of().export(tmp_path / "new", tokenizer)
    with pytest.raises(InputError, match=r"has no token of the model's .*=299"):
        ours_of(vocab_size=300, eos_id=299).export(tmp_path / "new", tokenizer)
    assert not (tmp_path / "new").exists()
