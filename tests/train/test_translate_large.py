"""`train.translate` on files that count as large ones, whose texts and tokens are mapped."""

import json
import random
import shutil

import datasets
import pytest
from helpers_scripts import interrupted_at

from minitransformer.data import columns, load, pairs, remembered, table_rows
from minitransformer.errors import InputError
from minitransformer.tokenization import train_bpe_tokenizer, train_character_tokenizer
from train.engine import tokenizer_text
from train.engine.feed import Feed
from train.translate.__main__ import main
from train.translate.data import are_sentences, tokenizers_for
from train.translate.recipes import PRESETS, Recipe, transformer

WORDS = {"der": "the", "Hund": "dog", "Mann": "man", "sieht": "sees", "eine": "a", "Katze": "cat", "und": "and"}
SIZES = dict(d_model=16, num_heads=2, d_ff=32, num_encoder_layers=1, num_decoder_layers=1, dropout=0.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, chance = tmp_path_factory.mktemp("corpus"), random.Random(0)
    for stem, count in (("train", 80), ("val", 8)):
        sentences = [chance.choices(list(WORDS), k=chance.randint(2, 9)) for _ in range(count)]
        source = [" ".join(words) for words in sentences]
        target = [" ".join(WORDS[word] for word in words) for words in sentences]
        if stem == "train":
            source[40] = ""
        for suffix, lines in (("de", source), ("en", target)):
            (folder / f"{stem}.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    recipe = Recipe(transformer(**SIZES, positions="rotary"), lr=1e-2, warmup_steps=2, max_tokens=200, pool=2)
    monkeypatch.setitem(PRESETS, "tiny", {"transformer": recipe})
    monkeypatch.setattr("train.translate.__main__.draw", lambda *_: None)
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))


def flags(corpus):
    options = ["--tokenizer", "bpe", "--vocab-size", "60", "--max-length", "14", "--steps", "8", "--evaluations", "2"]
    return ["--data", str(corpus), "--source", "de", "--target", "en", *options, "--threads", "1", "--beam", "1"]


def left_by(run):
    """The weights of a run, and its figures."""
    report = json.loads((run / "results.json").read_text())["models"]["transformer"]
    figures = {name: value for name, value in report.items() if "second" not in name and name != "validation"}
    return (run / "transformer" / "model.safetensors").read_bytes(), figures


def test_a_run_on_mapped_files_ends_as_one_in_memory_and_a_resumed_one_finds_them(
    corpus, tmp_path, monkeypatch, capsys
):
    main([*flags(corpus), "--out", str(tmp_path / "small")])
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(remembered, "LARGE", 0)
    monkeypatch.setattr(columns, "ROWS", 7)
    capsys.readouterr()
    interrupted_at(5, Feed, monkeypatch, main, [*flags(corpus), "--out", str(tmp_path / "large")])
    dropped = "dropped 1 of 80 rows, where source or target is empty: line 41"
    assert dropped in capsys.readouterr().err
    made = {
        file: file.stat().st_mtime_ns for kind in ("tables", "tokens") for file in (tmp_path / "cache" / kind).iterdir()
    }
    assert sorted(file.suffix for file in made) == [".arrow", ".arrow", ".json", ".json", ".tokens", ".tokens"]
    monkeypatch.setattr(table_rows, "write_rows", lambda *_: pytest.fail("is read again"))
    monkeypatch.setattr(pairs, "text_batches", lambda *_: pytest.fail("are made again"))
    main(["--resume", str(tmp_path / "large")])
    assert dropped in capsys.readouterr().err
    assert left_by(tmp_path / "large") == left_by(tmp_path / "small")
    assert {file: file.stat().st_mtime_ns for file in made} == made


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_tokenizers_learn_from_the_texts_as_a_list_of_them_would_have_them(large, corpus, monkeypatch):
    monkeypatch.setattr(remembered, "LARGE", large)
    with pytest.warns(UserWarning, match="dropped 1 of 80 rows"):
        split = load(corpus, source="de", target="en")["train"]
    sources, targets = split["source"][:], split["target"][:]
    joint, same = tokenizers_for(split, "bpe", vocab_size=60, joint=True)
    assert joint is same
    assert joint.to_str() == train_bpe_tokenizer([*sources, *targets], 60).to_str()
    separate = tokenizers_for(split, "bpe", vocab_size=50, joint=False)
    assert [each.to_str() for each in separate] == [
        train_bpe_tokenizer(side, 50).to_str() for side in (sources, targets)
    ]
    separate = tokenizers_for(split, "character", vocab_size=50, joint=True)
    assert [each.to_str() for each in separate] == [
        train_character_tokenizer(side).to_str() for side in (sources, targets)
    ]


def test_pieces_are_learned_from_the_first_texts_of_a_large_corpus(monkeypatch):
    monkeypatch.setattr(columns, "ROWS", 2)
    monkeypatch.setattr(tokenizer_text, "TOKENIZER_BYTES", 15)
    split = datasets.Dataset.from_dict(
        {"source": ["abc ab", "ab abc", "bé ab", "ab bc", "xyz", "z"], "target": ["cd"] * 6}
    )
    with pytest.warns(UserWarning, match="first 0 MB of the sources, 4 of 6") as said:
        both, _ = tokenizers_for(split, "bpe", vocab_size=20, joint=True)
    assert len(said) == 1  # the targets have room
    assert both.to_str() == train_bpe_tokenizer([*split["source"][:4], *["cd"] * 6], 20).to_str()
    with (
        pytest.warns(UserWarning),
        pytest.raises(InputError, match="has 5 different characters, so it must be at least 9"),
    ):
        tokenizers_for(split, "bpe", vocab_size=8, joint=False)
    assert "x" in tokenizers_for(split, "character", vocab_size=20, joint=True)[0].get_vocab()


def test_a_long_source_makes_sentences_wherever_it_stands(monkeypatch):
    monkeypatch.setattr(columns, "ROWS", 2)
    for length, found in ((40, False), (41, True)):
        split = datasets.Dataset.from_dict({"source": ["a", "b", "c", "d" * length], "target": ["e" * 50] * 4})
        assert are_sentences({"train": split}) is found
