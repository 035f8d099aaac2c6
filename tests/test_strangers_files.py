"""Tokenizers, weights and tables from strangers: what is refused, and why."""

import json
import warnings
from dataclasses import replace

import jaxtyping
import pytest
import torch
from helpers_checkpoints import TINY, refusal
from helpers_models import tiny_rnn, tiny_transformer
from safetensors.torch import load_file, save_file

import minitransformer
from minitransformer import BERT, GPT, BERTConfig, InputError, TransformerConfig
from minitransformer.data import load
from minitransformer.data.headers import Wanted
from minitransformer.data.tables import read_table
from minitransformer.errors import reported_to_user
from minitransformer.pipelines.completer import Completer
from minitransformer.pipelines.translator import Translator
from minitransformer.tokenization import load_tokenizer, train_character_tokenizer


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


# Tokenizers


def test_ids_beyond_the_vocabulary_are_refused(tmp_path):
    tokenizer = train_character_tokenizer(["abcde"])
    folder = Completer(GPT(TINY), tokenizer).save(tmp_path / "gpt")
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


def test_ctrl_c_is_no_fault_of_the_tokenizer(tmp_path, monkeypatch):
    train_character_tokenizer(["a"]).save(str(tmp_path / "tokenizer.json"))

    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("minitransformer.tokenization.Tokenizer.from_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(tmp_path / "tokenizer.json")


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
        {"shape": [10**12, 10**12]},
        {"shape": [2**63, 2**63]},
        {"data_offsets": [0, 10**12]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [-1, 3]},
        {"dtype": "F2"},
    ):
        text = json.dumps(header | {name: header[name] | lie}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + valid[8 + length :])
        assert "is damaged" in refusal(minitransformer.load, folder)
    for claimed in (2**64 - 1, 2**40, length + 10**6):
        path.write_bytes(claimed.to_bytes(8, "little") + valid[8:])
        assert "is damaged" in refusal(minitransformer.load, folder)


# Data


def test_lines_with_a_thousand_keys_of_their_own_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "a", f"key {i}": "b"}) + "\n" for i in range(2000)))
    assert "line 1000: more than 1,000 distinct keys" in refusal(load, path)
    path.write_text("".join(json.dumps({f"key {i}": "b"}) + "\n" for i in range(1000)))
    assert len(refusal(load, path)) < 500  # it does not name them all
    for message in (refusal(load, path), refusal(lambda: load(path, source="a", target="b"))):
        assert "'key 1', " in message
        assert len(message) < 500


@pytest.mark.parametrize("as_text", [True, False], ids=["plain", "dictionary"])
def test_one_value_in_every_row_of_a_parquet_file_counts_in_every_row(as_text, tmp_path):
    import pyarrow
    from pyarrow import parquet

    values = pyarrow.array(["x" * 100_000]), pyarrow.array([0] * 1000, pyarrow.int8())
    column = pyarrow.DictionaryArray.from_arrays(values[1], values[0])
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"text": column.dictionary_decode() if as_text else column})
    parquet.write_table(table, path, compression="zstd", row_group_size=1000)
    assert path.stat().st_size < 2000
    assert "unpacks to over 2,000 times its size" in refusal(load, path)

    parquet.write_table(pyarrow.table({"text": column.slice(0, 3)}), path)
    assert list(read_table(path, Wanted()).read(["text"])) == [(row, ("x" * 100_000,)) for row in (1, 2, 3)]
    parquet.write_table(pyarrow.table({"text": pyarrow.ListArray.from_arrays([0, 1000], column)}), path)
    assert "'text' is of 'list<" in refusal(load, path)


def test_a_message_does_not_carry_control_characters_to_the_terminal(capsys):
    with pytest.raises(SystemExit), reported_to_user():
        raise InputError("it says \x1b[2J\u202e here")
    assert capsys.readouterr().err == "error: it says \\x1b[2J\\u202e here\n"


def test_models_of_every_kind_still_load(tmp_path):
    small = BERTConfig.tiny()
    for number, model in enumerate([tiny_rnn(), tiny_transformer(), GPT(TINY), BERT(replace(small, vocab_size=9))]):
        assert minitransformer.load(model.save(tmp_path / str(number))).config == model.config
    assert TransformerConfig(5, 5)
