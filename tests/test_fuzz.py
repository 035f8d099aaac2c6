"""Reading any file, however damaged, succeeds or raises one of our errors."""

import io
import json
import pickle
import tarfile
import warnings
import zipfile
from dataclasses import asdict
from functools import partial

import jaxtyping
import pyarrow
import pytest
import torch
from helpers_bert import CASES as BERTS
from helpers_bert import theirs_of
from helpers_checkpoints import TINY
from helpers_damage import spoiled_bytes, spoiled_json, spoiled_safetensors, spoiled_text_file
from helpers_models import tiny_rnn, tiny_transformer
from helpers_processes import together
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from transformers import GPT2Config, GPT2LMHeadModel

import minitransformer
from minitransformer import GPT, InputError, SequenceClassifier
from minitransformer.data import load
from minitransformer.data.downloads import unpack
from minitransformer.tokenization import (
    load_tokenizer,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
    train_wordpiece_tokenizer,
)
from train.engine.checkpoint import load_checkpoint, save_checkpoint
from train.engine.data_parallel import replicate
from train.engine.processes import Processes
from train.engine.run_folder import create_run, open_run
from train.engine.state import State
from train.engine.tensor_folder import require_undamaged
from train.pretrain.gpt.settings import GPTSettings

STATE = State(step=1, seconds=0.5, history=[{"step": 1, "seconds": 0.5, "loss": 2.0}], best_score=[-2.0], best_step=1)
PROFILE = dict(
    deadline=10_000,  # milliseconds, which only a file that makes a reader work for nothing can need
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def fuzzed(few):
    """Runs a test on `few` cases, and with the slow tests on many more: 15,000 in all of them."""
    return pytest.mark.parametrize("cases", [few, pytest.param(1500, marks=pytest.mark.slow)], ids=["few", "many"])


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch):
    """Without shapes checked at every call, which would find mistyped values first; and in silence."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check(cases, files, read):
    """Reads `cases` contents of the `files`, {path: strategy of its bytes}: only our errors may be raised."""
    outcomes = {"read": 0, "refused": 0}

    @settings(max_examples=cases, **PROFILE)
    @given(st.sampled_from(sorted(files)).flatmap(lambda path: st.tuples(st.just(path), files[path])))
    def one(case):
        path, content = case
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        try:
            read(path)
            outcomes["read"] += 1
        except (InputError, OSError) as error:
            outcomes["refused"] += 1
            assert len(str(error)) < 20_000
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)

    one()
    assert outcomes["refused"] > 0
    return outcomes


def gpt2():
    sizes = {"vocab_size": 7, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def models(folder):
    """A folder of each kind of model, ours and Hugging Face's."""
    ours = {
        "transformer": tiny_transformer(num_decoder_layers=1),
        "rnn": tiny_rnn(),
        "gpt": GPT(TINY),
        "classifier": SequenceClassifier(GPT(TINY), 2, labels=["no", "yes"]),
        "classifier of a transformer": SequenceClassifier(tiny_transformer(), 2),
    }
    folders = [model.save(folder / name) for name, model in ours.items()]
    theirs = {case: theirs_of(case) for case in BERTS if "one" not in case and "two" not in case}
    theirs["gpt2"] = gpt2()
    for name, model in theirs.items():
        model.save_pretrained(folder / name)
        folders.append(folder / name)
    return folders


def load_folder(path):
    return minitransformer.load(path.parent)


@fuzzed(120)
def test_any_configuration_is_read_or_refused(cases, tmp_path):
    files = [folder / "config.json" for folder in models(tmp_path)]
    check(cases, {path: spoiled_text_file(json.loads(path.read_text())) for path in files}, load_folder)


@fuzzed(80)
def test_any_file_of_weights_is_read_or_refused(cases, tmp_path):
    files = [folder / "model.safetensors" for folder in models(tmp_path)]
    check(cases, {path: spoiled_safetensors(path.read_bytes()) for path in files}, load_folder)


@fuzzed(60)
def test_any_pickle_is_read_or_refused(cases, tmp_path):
    model = gpt2()
    files = []
    for name in ("new", "old"):
        model.save_pretrained(tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
        files.append(tmp_path / name / "pytorch_model.bin")
        torch.save(model.state_dict(), files[-1], _use_new_zipfile_serialization=name == "new")
    plain = pickle.dumps({"a": torch.ones(2)}, protocol=2)
    strategies = {path: spoiled_bytes(path.read_bytes()) | spoiled_bytes(plain) for path in files}
    check(cases, strategies, load_folder)


@fuzzed(40)
def test_any_index_of_shards_is_read_or_refused(cases, tmp_path):
    model = gpt2()
    model.save_pretrained(tmp_path, max_shard_size=600)
    index = tmp_path / "model.safetensors.index.json"
    valid = json.loads(index.read_text())
    check(cases, {index: spoiled_text_file(valid)}, load_folder)


TEXTS = ["The cat sat on the mat.\n", "2 émigrés, 猫!", "[PAD] and <s>"]


@fuzzed(120)
def test_any_tokenizer_is_read_and_works_or_is_refused(cases, tmp_path):
    tokenizers = {
        "character": train_character_tokenizer(TEXTS),
        "bpe": train_bpe_tokenizer(TEXTS, 60),
        "byte-bpe": train_byte_bpe_tokenizer(TEXTS, 280),
        "wordpiece": train_wordpiece_tokenizer(TEXTS, 60),
    }
    strategies = {}
    for name, tokenizer in tokenizers.items():
        path = tmp_path / f"{name}.json"
        tokenizer.save(str(path))
        valid = json.loads(tokenizer.to_str())
        # Most of a vocabulary is alike: the other parts deserve as many cases as it.
        parts = {key: value for key, value in valid.items() if key != "model"}
        whole = valid["model"]
        strategies[path] = spoiled_text_file(valid) | spoiled_json(parts).map(partial(with_model, whole))

    def use(path):
        tokenizer = load_tokenizer(path, vocab_size=300)
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert all(index < 300 for index in ids)
            assert isinstance(tokenizer.decode(ids), str)

    check(cases, strategies, use)


def with_model(model, text):
    """The tokenizer of a spoiled rest and a sound model."""
    parts = json.loads(text)
    return json.dumps({**parts, "model": model} if isinstance(parts, dict) else parts).encode()


PAIRS = [
    (f"le {word}", f"the {word} 2") for word in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "é", "猫"]
]
TABLES = {
    "a.csv": "source,target\n" + "".join(f'"{a}",{b}\n' for a, b in PAIRS),
    "b.tsv": "text\tlabel\n" + "".join(f"{a}\t{len(b) % 2}\n" for a, b in PAIRS),
    "c.jsonl": "".join(json.dumps({"text": a, "label": len(b) % 2}) + "\n" for a, b in PAIRS),
    "d.txt": "\n".join(a for a, _ in PAIRS),
}


def tables(folder):
    """A file in each format, and for each the strategy that spoils it."""
    strategies = {folder / name: spoiled_bytes(text.encode()) for name, text in TABLES.items()}
    rows = [json.loads(line) for line in TABLES["c.jsonl"].splitlines()]
    lines = st.lists(st.sampled_from(rows).flatmap(spoiled_json) | st.sampled_from(rows).map(json.dumps), min_size=11)
    strategies[folder / "c.jsonl"] |= lines.map(lambda found: "\n".join(found).encode("utf-8", "surrogatepass"))
    columns = {"text": [a for a, _ in PAIRS], "label": [len(b) % 2 for _, b in PAIRS]}
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return strategies | {folder / "e.parquet": spoiled_bytes(stream.getvalue())}


@pytest.mark.parametrize("kind", [None, "labelled"])
@fuzzed(70)
def test_any_file_of_data_is_read_or_refused(cases, kind, tmp_path):
    check(cases, tables(tmp_path), partial(load, kind=kind))


@pytest.mark.parametrize("world_size", [1, 2])
@fuzzed(60)
def test_any_checkpoint_is_read_or_refused_even_one_whose_checksums_hold(cases, world_size, tmp_path):
    """Of one process, and of two that share the model in shards."""
    folder = tmp_path / "step"

    def save(processes):
        model = GPT(TINY)
        optimizer = torch.optim.AdamW(model.parameters())
        replica = replicate(model, optimizer, processes, fsdp=world_size > 1)
        replica.loss({"ids": torch.zeros(1, 3, dtype=torch.long)})["lm"].total.backward()
        optimizer.step()
        save_checkpoint(folder, replica.model, optimizer, asdict(STATE))

    together(2, save) if world_size > 1 else save(Processes())
    model = GPT(TINY)
    optimizer = torch.optim.AdamW(model.parameters())
    strategies = {path: spoiled_safetensors(path.read_bytes()) for path in folder.glob("*.safetensors")}
    strategies[folder / "values.json"] = spoiled_text_file(json.loads((folder / "values.json").read_text()))
    check(cases, strategies, lambda _: State.from_json(load_checkpoint(folder, model, optimizer), folder))
    check(cases // 4, {folder / "SHA256SUMS": spoiled_bytes(b"ab  c\n")}, lambda _: require_undamaged(folder))


@fuzzed(40)
def test_the_settings_of_any_run_are_read_or_refused(cases, tmp_path):
    settings = GPTSettings(steps=1, data="a.txt")
    create_run(tmp_path / "run", settings)
    path = tmp_path / "run" / "settings.json"
    valid = json.loads(path.read_text())
    strategies = {path: spoiled_text_file(valid)}

    def resume(path):
        open_run(GPTSettings, "pretrain gpt", ["--resume", str(path.parent)])

    check(cases, strategies, resume)


@fuzzed(60)
def test_any_archive_is_unpacked_or_refused(cases, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/one.md", "one" * 50)
        archive.writestr("b/two.md", "two")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.zip", "a/one.md")
    strategies = {path: spoiled_bytes(path.read_bytes()) for path in sorted(tmp_path.iterdir())}
    folder = tmp_path / "unpacked"

    def read(path):
        folder.mkdir()
        try:
            unpack(path, folder, wanted=lambda path: True, max_bytes=1000)
        finally:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()

    check(cases, strategies, read)
