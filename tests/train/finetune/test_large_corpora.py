"""`train.finetune` on data sets that count as large ones, whose texts and tokens are mapped."""

import json
import random
from pathlib import Path

import datasets
import huggingface_hub
import numpy
import pytest
from helpers_scripts import interrupted_at

from minitransformer.data import columns, labels
from minitransformer.tokenization import train_wordpiece_tokenizer
from train.compare_sentiment import write_texts
from train.engine import tokenizer_text
from train.engine.feed import Feed
from train.finetune import baselines as linear
from train.finetune.__main__ import main
from train.finetune.settings import FinetuneSettings
from train.finetune.starting_model import new_tokenizer

WORDS = {"fine": 1, "witty": 1, "dull": 0, "weak": 0}


def sentences(count, seed):
    draw = random.Random(seed)
    texts = [" ".join(draw.choices([*WORDS, "film", "plot", "cast"], k=draw.randint(1, 9))) for _ in range(count)]
    return {"text": texts, "label": [sum(WORDS.get(word, 0) for word in text.split()) % 3 - 1 for text in texts]}


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """A corpus some of whose texts have no label."""
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["even", "odd"])}
    )
    splits = {
        name: datasets.Dataset.from_dict(sentences(count, seed), features=features)
        for seed, (name, count) in enumerate((("train", 90), ("validation", 30), ("test", 30)))
    }
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(splits))
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))


def left_by(run):
    """The weights of a run, and its figures."""
    results = json.loads((run / "results.json").read_text())
    figures = {name: value for name, value in results.items() if "second" not in name and name != "history"}
    return (run / "model.safetensors").read_bytes(), (run / "tokenizer.json").read_bytes(), figures


def test_a_resumed_run_finds_the_tokens_and_ends_as_one_that_was_not_interrupted(tmp_path, monkeypatch, capsys):
    sizes = ["--d-model", "16", "--num-layers", "1", "--num-heads", "2", "--max-tokens", "100", "--vocab-size", "60"]
    flags = ["--data", "hub:some/thing", "--init", "scratch", *sizes, "--epochs", "2", "--pool", "2", "--threads", "1"]
    main([*flags, "--out", str(tmp_path / "whole")])
    assert " texts without a label: " in capsys.readouterr().err
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache" / "tokens").iterdir()}
    assert len(made) == 3
    monkeypatch.setattr(labels, "text_batches", lambda *_: pytest.fail("are encoded again"))
    interrupted_at(5, Feed, monkeypatch, main, [*flags, "--out", str(tmp_path / "stopped")])
    main(["--resume", str(tmp_path / "stopped")])
    assert left_by(tmp_path / "stopped") == left_by(tmp_path / "whole")
    assert len(left_by(tmp_path / "stopped")[2]["baselines"]) == 2
    assert {file: file.stat().st_mtime_ns for file in made} == made


SETTINGS = FinetuneSettings(init=Path("scratch"), vocab_size=40)


def test_pieces_are_learned_from_the_first_texts_of_a_large_corpus(monkeypatch):
    monkeypatch.setattr(columns, "ROWS", 1)
    texts = ["abc ab", "bé ab", "ab abc", "xyz"]
    split = datasets.Dataset.from_dict({"text": texts})
    assert new_tokenizer(SETTINGS, split).to_str() == train_wordpiece_tokenizer(texts, 40).to_str()
    monkeypatch.setattr(tokenizer_text, "TOKENIZER_BYTES", 12)
    with pytest.warns(UserWarning, match="is trained on the first 0 MB of the texts, 2 of 4"):
        tokenizer = new_tokenizer(SETTINGS, split)
    assert tokenizer.to_str() == train_wordpiece_tokenizer(texts[:2], 40).to_str()


def test_baselines_learn_from_some_of_many_texts_and_from_every_label(monkeypatch):
    texts = [f"{'good' if label else 'bad'} film {place}" for label in (0, 1) for place in range(200)] + ["so so"]
    labels = [0] * 200 + [1] * 200 + [2]
    splits = dict.fromkeys(("train", "validation"), datasets.Dataset.from_dict({"text": texts, "label": labels}))
    learned = []

    class Fixed:
        def fit(self, *given):
            learned.append(given)

        def predict(self, texts):
            return numpy.zeros(len(texts), int)

    monkeypatch.setattr(linear, "BASELINES", {"fixed": (lambda setting: Fixed(), (1.0,))})
    linear.baselines(splits, "validation", 3)
    assert learned == [(texts, labels)]
    monkeypatch.setattr(linear, "LEARNED_BYTES", 1000)
    with pytest.warns(UserWarning, match=r"the baselines learn from 0 MB of the texts, \d\d of 401, drawn at random"):
        linear.baselines(splits, "validation", 3)
    some, theirs = learned[1]
    assert 500 < sum(map(len, some)) < 1500
    assert set(zip(some, theirs, strict=True)) < set(zip(texts, labels, strict=True))
    assert theirs.count(2) == 1
    assert 20 < theirs.count(1) < 60


def test_guesses_of_many_texts_are_those_of_all_at_once(monkeypatch):
    corpus = sentences(60, 3)
    corpus["label"] = [label + 1 for label in corpus["label"]]
    split = datasets.Dataset.from_dict(corpus)
    splits = {"train": split, "validation": split}
    expected = linear.baselines(splits, "validation", 3)
    assert len(expected) == 2
    monkeypatch.setattr(columns, "ROWS", 7)
    assert linear.baselines(splits, "validation", 3) == expected


def test_texts_to_pretrain_on_are_written_from_a_mapped_corpus(tmp_path):
    texts = ["é", 'a "b"', "c\td"]
    split = datasets.Dataset.from_dict({"text": texts})
    write_texts({"train": split, "validation": split}, tmp_path / "texts")
    for name in ("train", "validation"):
        lines = (tmp_path / "texts" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["text"] for line in lines] == texts
