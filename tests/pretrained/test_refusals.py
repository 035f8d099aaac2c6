"""What can be wrong with a checkpoint, or with its name."""

import json
from unittest.mock import ANY, Mock

import huggingface_hub
import jaxtyping
import pytest
import torch
from helpers_bert import saved
from helpers_checkpoints import edit_config, edit_tensors, refusal, refused
from helpers_hub import assert_same_outputs, theirs_of
from safetensors.torch import load_file

import minitransformer
from minitransformer import BERT, GPT, InputError
from minitransformer.pretrained import BERTHubConfig, GPT2HubConfig, checkpoint_folder
from minitransformer.tokenization import train_character_tokenizer, train_wordpiece_tokenizer


class Malicious:
    def __reduce__(self):
        return print, ("this must not run",)


def config(**changes):
    return lambda folder: edit_config(folder, **changes)


def ends(ids):
    return lambda folder: ((folder / "generation_config.json").unlink(), edit_config(folder, eos_token_id=ids))


def tensors(change):
    return lambda folder: edit_tensors(folder, change)


def text(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def as_pickle(content=None, **options):
    def write(folder):
        value = load_file(folder / "model.safetensors") if content is None else content
        (folder / "model.safetensors").unlink()
        torch.save(value, folder / "pytorch_model.bin", **options)

    return write


def index_of(weight_map):
    def write(folder):
        (folder / "model.safetensors").rename(folder / "shard.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")

    return write


WTE, C_FC = "transformer.wte.weight", "transformer.h.1.mlp.c_fc.weight"
WRONG = {
    "no config": (lambda f: (f / "config.json").unlink(), ["has no config.json"]),
    "broken config": (text("config.json", b"{"), ["not valid JSON"]),
    "a list": (text("config.json", b"[]"), ["holds a list, not an object"]),
    "one of ours": (text("config.json", b'{"model": "GPT"}'), ["read it with GPT.load"]),
    "mistyped": (config(n_embd="12"), ["config.json: n_embd='12' must be of type int"]),
    "not a number": (config(layer_norm_epsilon=float("nan")), ["layer_norm_epsilon=nan must be at most"]),
    "no end": (ends(None), ["eos_token_id=None is no id in a vocabulary of 11"]),
    "end elsewhere": (ends(11), ["eos_token_id=11 is no id in a vocabulary of 11"]),
    "activation": (config(activation_function="silu"), ["'silu' must be one of gelu_new"]),
    "impossible": (config(n_head=5), ["d_model=12 is not divisible by num_heads=5"]),
    "too big": (config(n_embd=3 * 10**6), ["18,000,060,000,000 parameters or more"]),
    "a layer more": (config(n_layer=1), ["in 12 tensors", "h.1.ln_1.bias is not in the model", "; and 2 more"]),
    "a layer less": (config(n_layer=3), ["h.2.ln_1.weight is missing", "; and 2 more"]),
    "no head": (config(tie_word_embeddings=False), ["lm_head.weight is missing"]),
    "half a prefix": (
        tensors(lambda t: t.update({"wte.weight": t.pop(WTE)})),
        [f"does not fit the model in 2 tensors: {WTE} is missing; wte.weight is"],
    ),
    "transposed": (
        tensors(lambda t: t.update({C_FC: t[C_FC].T.contiguous()})),
        [f"does not fit the model in 1 tensors: {C_FC} has shape (48, 12), not (12, 48)"],
    ),
    "weights without end": (
        tensors(lambda t: t[C_FC][0].fill_(float("inf"))),
        [f"48 of the 576 numbers of {C_FC} are NaN or infinite"],
    ),
    "two heads": (
        tensors(lambda t: t.update({"lm_head.weight": -t[WTE]})),
        [f"lm_head.weight differs from {WTE}", '"tie_word_embeddings": false'],
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["no weights", "model.safetensors", "pytorch_model"]),
    "cut off": (text("model.safetensors", b"\x08"), ["model.safetensors is damaged"]),
    "pickle": (as_pickle({WTE: Malicious()}), ["pytorch_model.bin is refused", "can run any code"]),
    "old pickle": (as_pickle({WTE: Malicious()}, _use_new_zipfile_serialization=False), ["can run any code"]),
    "junk": (lambda f: (as_pickle()(f), text("pytorch_model.bin", b"junk")(f)), ["refused: it is damaged"]),
    "other pickle": (as_pickle({"model": {WTE: torch.ones(1)}}), ["does not hold tensors by name"]),
    "index": (index_of({WTE: ["a"]}), ["index.json is not an index of shards: its weight_map does not give each"]),
    "missing shard": (index_of({WTE: "b.safetensors"}), ["is incomplete: it has no b.safetensors"]),
    "half an index": (index_of(dict.fromkeys([WTE, C_FC], "shard.safetensors")), ["in 26 tensors", "wpe.weight is"]),
    "a shard outside": (index_of({WTE: "../a.safetensors"}), ["names '../a.safetensors', which is not the name of a"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_checkpoint_is_refused_in_one_line(wrong, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users run without it
    refused(WRONG, wrong, saved(theirs_of("GPT-2"), tmp_path / "theirs"), GPT.from_pretrained)
    assert "this must not run" not in capsys.readouterr().out


Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
WRONG_LLAMA = {
    "rope type": (
        config(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}),
        ["config.json: rope_parameters: rope_type='yarn' must be one of default, linear, llama3"],
    ),
    "rope type as before version 5": (
        config(rope_parameters=..., rope_scaling={"type": "dynamic", "factor": 2.0}),
        ["rope_scaling: rope_type='dynamic' must be one of"],
    ),
    "rope option": (
        config(rope_parameters={"rope_type": "linear", "factor": 2.0, "mscale": 0.7}),
        ["rope_parameters of rope_type='linear' has {'mscale': 0.7}, which is not computed here"],
    ),
    "half of llama3": (
        config(rope_parameters={"rope_type": "llama3", "factor": 2.0}),
        ["takes factor, low_freq_factor", "given are ['factor', 'original_max_position_embeddings']"],
    ),
    "half of a head": (config(partial_rotary_factor=0.5), ["partial_rotary_factor=0.5: only 1.0 is supported"]),
    "activation": (config(hidden_act="gelu"), ["hidden_act='gelu' must be one of silu, swish"]),
    "ends": (ends([10, 11]), ["eos_token_id=[10, 11] is no id in a vocabulary of 11"]),
    "quantised": (
        config(quantization_config={"quant_method": "gptq", "bits": 4}),
        ["quantization_config={'quant_method': 'gptq', 'bits': 4}: quantised weights are not read"],
    ),
    "fp8": (
        tensors(lambda t: t.update({Q_PROJ: t[Q_PROJ].to(torch.float8_e4m3fn)})),
        [f"{Q_PROJ} holds torch.float8_e4m3fn, not floats"],
    ),
    "int4 in pairs": (
        tensors(lambda t: t.update({Q_PROJ.replace("weight", "qweight"): t.pop(Q_PROJ).to(torch.int32)})),
        [f"{Q_PROJ} is missing", "q_proj.qweight is not in the model"],
    ),
    "infinite": (tensors(lambda t: t[Q_PROJ][0].fill_(float("inf"))), [f"numbers of {Q_PROJ} are NaN or infinite"]),
}


@pytest.mark.parametrize("wrong", WRONG_LLAMA)
def test_a_llama_that_would_be_computed_otherwise_is_refused(wrong, tmp_path):
    refused(WRONG_LLAMA, wrong, saved(theirs_of("Llama"), tmp_path / "theirs"), GPT.from_pretrained)


WRONG_QWEN3 = {
    "windows": (config(use_sliding_window=True), ["use_sliding_window=True: only False is supported"]),
    "layers": (
        config(layer_types=["full_attention", "linear_attention"]),
        ["layer_types=['full_attention', 'linear_attention']: only"],
    ),
    "a gated ReLU": (config(hidden_act="relu"), ["mlp.gate_proj.weight differs from", "only equal ones are read"]),
}


@pytest.mark.parametrize("wrong", WRONG_QWEN3)
def test_a_qwen3_that_would_be_computed_otherwise_is_refused(wrong, tmp_path):
    refused(WRONG_QWEN3, wrong, saved(theirs_of("Qwen3"), tmp_path / "theirs"), GPT.from_pretrained)


def with_tokenizer(case, folder, **names):
    train = train_character_tokenizer if case == "Llama" else train_wordpiece_tokenizer
    tokenizer = train(["to be or not to be"], *([30] if case != "Llama" else []))
    tokenizer.save(str(saved(theirs_of(case), folder) / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")


def test_a_tokenizer_of_other_special_tokens_than_the_models_is_refused_with_both(tmp_path):
    eos = train_character_tokenizer(["to be or not to be"]).token_to_id("[EOS]")
    with_tokenizer("Llama", tmp_path / "llama", eos_token={"content": "[EOS]"}, bos_token=None, pad_token="[UNK]")
    says = f"eos_token='[EOS]', whose id is {eos}, but the model's eos_token_id is 10"
    assert says in refusal(GPT.from_pretrained, tmp_path / "llama")
    (tmp_path / "llama" / "generation_config.json").write_text(json.dumps({"eos_token_id": [10, eos]}))
    assert GPT.from_pretrained(tmp_path / "llama").config.stop_ids == (eos,)
    with_tokenizer("BERT", tmp_path / "bert", mask_token="[SEP]")
    assert "mask_token='[SEP]', whose id is" in refusal(BERT.from_pretrained, tmp_path / "bert")


def test_half_a_head_is_refused(tmp_path):
    edit_tensors(saved(theirs_of("BERT"), tmp_path), lambda tensors: tensors.pop("cls.predictions.bias"))
    assert "in 1 tensors: cls.predictions.bias is missing" in refusal(BERT.from_pretrained, tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"model_type": "electra", "architectures": ["ElectraModel"]},
            "('ElectraModel') is a checkpoint of 'electra'",
        ),
        ({"hidden_size": 64, "num_hidden_layers": 2}, '"model_type"'),
        ({"model_type": None}, '"model_type"'),
        ({"model_type": [1], "architectures": {}}, "is a checkpoint of [1]"),
    ],
)
def test_a_folder_of_another_architecture_is_named_as_what_it_is(settings, says, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    causal = "'gpt2', 'llama', 'qwen3', 'arcee', 'mistral'"
    for read, known in (
        (minitransformer.load, f"{causal}, 'bert', 'roberta', 'albert', 'distilbert'"),
        (GPT.from_pretrained, causal),
    ):
        message = refusal(read, tmp_path)
        assert says in message
        assert f"reads {known}" in message


@pytest.mark.parametrize("hub_class", [GPT2HubConfig, BERTHubConfig])
def test_a_setting_of_another_value_than_the_one_supported_is_refused(hub_class):
    for name, value in hub_class.only.items():
        with pytest.raises(InputError, match=f"^{name}='other': only {value!r} is supported"):
            hub_class.from_json({name: "other"})


# Names, and the hub


@pytest.mark.parametrize("name", ["./gpt2", "~/gpt2", "runs/a/gpt2", "/gpt2", "a b", "../gpt2"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(name, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    assert "no such folder" in refusal(GPT.from_pretrained, name)


def test_a_local_folder_comes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    (tmp_path / "gpt2").mkdir()
    assert checkpoint_folder("gpt2").samefile(tmp_path / "gpt2")
    (tmp_path / "file").touch()
    assert "is a file: give the folder" in refusal(checkpoint_folder, "file")


def hub_that(answers, cache, monkeypatch):
    """Stands in for the network: the hub's answer is None or an error. Returns the mock that is asked."""
    asked = Mock(side_effect=answers)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", asked)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return asked


@pytest.mark.parametrize("name", ["gpt2", "owner/a-model_1.5"])
def test_without_a_network_a_hub_id_is_refused_after_one_question(name, tmp_path, monkeypatch):
    asked = hub_that(ConnectionError("Name or service\nnot known"), tmp_path, monkeypatch)
    with pytest.raises(InputError, match=r"\(Name or service not known\).*give the path of a folder") as refusal:
        GPT.from_pretrained(name)
    assert str(refusal.value).startswith(f"{name} is not a folder")
    asked.assert_called_once_with(name, timeout=10)


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "unreachable"])
def test_without_the_hub_a_model_in_its_cache_is_read(offline, tmp_path, monkeypatch):
    theirs = theirs_of("GPT-2")
    cached = tmp_path / "models--owner--gpt"  # as a download leaves it
    theirs.save_pretrained(cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    if offline:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    else:
        hub_that(ConnectionError("unreachable"), tmp_path, monkeypatch)
    assert_same_outputs(GPT.from_pretrained("owner/gpt"), theirs)
    if offline:
        with pytest.raises(InputError, match=r"offline mode is enabled.*give the path of a folder"):
            GPT.from_pretrained("gpt2")


def test_from_the_hub_come_settings_tokenizer_and_safetensors_only(tmp_path, monkeypatch):
    theirs = theirs_of("GPT-2")
    theirs.save_pretrained(tmp_path)
    hub_that(None, tmp_path, monkeypatch)
    download = Mock(return_value=str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert_same_outputs(GPT.from_pretrained("gpt2"), theirs)
    download.assert_called_once_with("gpt2", allow_patterns=ANY, local_files_only=False)
    on_the_hub = [
        *(
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "model.safetensors",
            "model-00001-of-00002.safetensors",
        ),
        *("model.safetensors.index.json", "pytorch_model.bin", "onnx/model.safetensors", "modeling.py", "tf_model.h5"),
    ]
    patterns = download.call_args.kwargs["allow_patterns"]
    found = huggingface_hub.utils.filter_repo_objects(on_the_hub, allow_patterns=patterns)
    assert list(found) == on_the_hub[:6]
