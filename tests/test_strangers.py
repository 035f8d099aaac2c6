"""Models, tokenizers and data from strangers: what is refused, why, and before what."""

import json
import warnings
import zipfile
from dataclasses import replace
from functools import partial

import pyarrow
import pytest
import torch
from helpers_checkpoints import TINY, edit_config, refusal
from helpers_models import tiny_rnn, tiny_transformer
from pyarrow import parquet
from safetensors.torch import load_file, save_file

import minitransformer
from minitransformer import GPT, Completer, SequenceClassifier, Translator
from minitransformer.data import load
from minitransformer.data.files import read_table
from minitransformer.data.headers import Wanted
from minitransformer.tokenization import load_tokenizer, train_character_tokenizer
from minitransformer.untrusted import read_json

pytestmark = pytest.mark.usefixtures("as_users_run_it")


# Sizes


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 10**9, "d_model": 1024},
        {"d_model": 10**6},
        {"num_layers": 10**9},
        {"num_layers": 10**4, "d_model": 10**4},
        {"vocab_size": 10**400},
    ],
    ids=str,
)
@pytest.mark.parametrize("build", [lambda: GPT(TINY), lambda: SequenceClassifier(GPT(TINY), 2)], ids=["gpt", "label"])
def test_a_configuration_of_a_million_million_parameters_is_refused_at_once(build, changes, tmp_path):
    folder = build().save(tmp_path)
    if "encoder" in json.loads((folder / "config.json").read_text()):
        changes = {"encoder": {"model": "GPT", **TINY.to_dict(), **changes}}
    edit_config(folder, **changes)
    message = refusal(minitransformer.load, folder)
    assert "parameters" in message or "layers" in message or "must be at most" in message


def test_weights_are_compared_with_the_configuration_before_memory_is_taken(tmp_path, monkeypatch):
    folder = GPT(TINY).save(tmp_path)
    edit_config(folder, vocab_size=10**7, d_model=8)
    made = []
    monkeypatch.setattr(torch.nn.init, "normal_", lambda t, *_, **__: made.append(t.device.type) or t)
    assert "embedding.weight has shape (7, 8), not (10000000, 8)" in refusal(minitransformer.load, folder)
    assert set(made) == {"meta"}


def test_a_model_larger_than_the_memory_of_the_machine_is_refused(tmp_path, monkeypatch):
    folder = GPT(TINY).save(tmp_path)
    monkeypatch.setattr("minitransformer.models.weights.memory_bytes", lambda: 1000)
    assert "this machine has" in refusal(minitransformer.load, folder)


def test_parts_that_a_classifier_drops_are_measured_too(tmp_path, monkeypatch):
    folder = SequenceClassifier(tiny_transformer(), 2).save(tmp_path)
    encoder = json.loads((folder / "config.json").read_text())["encoder"]
    edit_config(folder, encoder=encoder | {"target_vocab_size": 10**9})
    monkeypatch.setattr("minitransformer.models.weights.memory_bytes", lambda: 10**10)
    assert "the encoder: a model of the sizes" in refusal(minitransformer.load, folder)


# JSON


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"a": 1, "a": 2}', "gives 'a' twice"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[" * 200 + b"]" * 200, "nested more than 64 deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"", "not valid JSON"),
    ],
    ids=["twice", "endless", "deep", "digits", "latin-1", "empty"],
)
def test_json_that_readers_would_understand_differently_or_not_at_all_is_refused(text, says, tmp_path):
    (tmp_path / "config.json").write_bytes(text)
    assert says in refusal(read_json, tmp_path / "config.json")


def test_a_file_of_settings_of_absurd_size_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(10**10)  # takes no room: the file is a hole
    assert "10,000,000,000 bytes" in refusal(read_json, tmp_path / "config.json")


# Pickles


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin"])
def test_a_pickle_is_refused_with_the_reason(name, tmp_path):
    torch.save(GPT(TINY).state_dict(), tmp_path / name)
    for read in (minitransformer.load, GPT.from_pretrained):
        assert "it is a pickle, which can run any code when it is read" in refusal(read, tmp_path / name)
    folder = GPT(TINY).save(tmp_path)
    (folder / "model.safetensors").unlink()
    message = refusal(minitransformer.load, folder)
    assert "can run any code" in message
    assert "model.safetensors" in message
    if name != "pytorch_model.bin":
        (folder / "config.json").write_text('{"model_type": "gpt2"}')
        assert "can run any code" in refusal(minitransformer.load, folder)


def hub_folder(folder, tensors):
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.ones(1).expand(10**6, 10**6), "said to hold more numbers than the file"),
        (torch.ones(3).to_sparse(), "no plain tensor"),
        (torch.ones(3, device="meta"), "no plain tensor"),
        (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "no plain tensor"),
    ],
    ids=["one number as many", "sparse", "meta", "quantized"],
)
def test_tensors_that_are_not_what_they_seem_are_refused(tensor, says, tmp_path):
    assert says in refusal(GPT.from_pretrained, hub_folder(tmp_path, {"wte.weight": tensor}))


def test_a_compressed_checkpoint_is_refused(tmp_path):
    path = hub_folder(tmp_path, {"wte.weight": torch.zeros(1000)}) / "pytorch_model.bin"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "it is compressed" in refusal(GPT.from_pretrained, path.parent)


# Links


def model_folder(folder):
    return Completer(GPT(replace(TINY, vocab_size=9)), train_character_tokenizer(["abcde"])).save(folder)


def data_folder(folder):
    folder.mkdir()
    for name in ("train.txt", "dev.txt"):
        (folder / name).write_text("a line\n" * 20)
    return folder


@pytest.mark.parametrize(
    ("make", "name", "read"),
    [
        *((model_folder, name, Completer.load) for name in ("config.json", "model.safetensors", "tokenizer.json")),
        (data_folder, "train.txt", load),
        (data_folder, "dev.txt", partial(load, kind="text")),
    ],
)
def test_a_link_out_of_the_folder_is_refused(make, name, read, tmp_path):
    folder = make(tmp_path / "folder")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert "is a link to" in refusal(read, folder)
    (folder / name).unlink()
    (tmp_path / name).rename(folder / f"real-{name}")
    (folder / name).symlink_to(f"real-{name}")
    assert read(folder)
    (tmp_path / "link").symlink_to(folder)  # the user's own, to the whole folder
    assert read(tmp_path / "link")


# Tokenizers


def test_ids_beyond_the_vocabulary_are_refused(tmp_path):
    tokenizer = train_character_tokenizer(["abcde"])
    assert "the tokenizer has ids up to 8, the model knows 0 to 6" in refusal(Completer, GPT(TINY), tokenizer)
    folder = GPT(TINY).save(tmp_path / "gpt")
    tokenizer.save(str(folder / "tokenizer.json"))
    assert "tokenizer.json has ids up to 8, its model knows 0 to 6" in refusal(Completer.load, folder)

    folder = Translator(tiny_rnn(), train_character_tokenizer(["abcdefg"]), tokenizer).save(tmp_path / "rnn")
    assert Translator.load(folder)
    path = folder / "target_tokenizer.json"
    path.write_text(path.read_text().replace('"e": 8', '"e": 4000000'))  # as many tokens as the model has
    assert "target_tokenizer.json has ids up to 4000000, its model knows 0 to 8" in refusal(Translator.load, folder)


def test_a_tokenizer_that_panics_is_refused(tmp_path, capfd):
    value = json.loads(train_character_tokenizer(["a"]).to_str())
    value["decoder"] = {"type": "Strip", "content": "a", "start": 1, "stop": 1}
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    assert "is not a tokenizer" in refusal(load_tokenizer, tmp_path / "tokenizer.json")
    assert "panicked" in capfd.readouterr().err  # the library's own line


# Weights


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_numbers_of_another_kind_are_refused(dtype, tmp_path):
    folder = GPT(TINY).save(tmp_path)
    path = folder / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert f"holds {dtype}, not floats" in refusal(minitransformer.load, folder)


def test_a_header_that_lies_is_refused(tmp_path):
    folder = GPT(TINY).save(tmp_path)
    path = folder / "model.safetensors"
    valid = path.read_bytes()
    length = int.from_bytes(valid[:8], "little")
    header = json.loads(valid[8 : 8 + length])
    name = next(iter(header))
    for lie in (
        {"shape": [2**63, 2**63]},
        {"data_offsets": [0, 10**12]},
        {"dtype": "F2"},
    ):
        text = json.dumps(header | {name: header[name] | lie}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + valid[8 + length :])
        assert "is damaged" in refusal(minitransformer.load, folder)
    for claimed in (2**64 - 1, length + 10**6):
        path.write_bytes(claimed.to_bytes(8, "little") + valid[8:])
        assert "is damaged" in refusal(minitransformer.load, folder)


# Data


@pytest.mark.parametrize("as_text", [True, False], ids=["plain", "dictionary"])
def test_one_value_in_every_row_of_a_parquet_file_counts_in_every_row(as_text, tmp_path):
    values = pyarrow.array(["x" * 100_000]), pyarrow.array([0] * 1000, pyarrow.int8())
    column = pyarrow.DictionaryArray.from_arrays(values[1], values[0])
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"text": column.dictionary_decode() if as_text else column})
    parquet.write_table(table, path, compression="zstd", row_group_size=1000)
    assert path.stat().st_size < 2000
    assert "unpacks to over 2,000 times its size" in refusal(load, path)

    parquet.write_table(pyarrow.table({"text": column.slice(0, 3)}), path)
    assert list(read_table([path], Wanted()).read(["text"])) == [(row, ("x" * 100_000,)) for row in (1, 2, 3)]
    parquet.write_table(pyarrow.table({"text": pyarrow.ListArray.from_arrays([0, 1000], column)}), path)
    assert "'text' is of 'list<" in refusal(load, path)
