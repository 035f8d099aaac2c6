"""Rows of corpora that are read in several parts, here of a few kilobytes."""

from itertools import chain

import datasets
import pytest
import torch
from helpers_rows import content

from minitransformer.data import sentences as sentences_module
from minitransformer.data.packing import next_sentence_rows, single_rows
from minitransformer.data.sentences import LINE_ENDS, encode_documents
from minitransformer.tokenization import masked_specials, train_roberta_tokenizer, train_wordpiece_tokenizer
from train.pretrain.bert import rows as masked_rows
from train.pretrain.bert.corpora import Corpus, read_corpora, sentences_for_tokenizers
from train.pretrain.bert.rows import CorpusRows, corpora_rows

COLOURS = ("green", "red", "blue", "white")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    lines = (f"{n} {COLOURS[n % 4]} bottles hang on the {COLOURS[n % 3]} wall." for n in range(400))
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    films = (f"a {COLOURS[n % 4]} film, number {n}" for n in range(200))
    (folder / "films.csv").write_text("text\n" + "\n".join(f'"{film}"' for film in films), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(sentences_module, "PART", 3000)
    monkeypatch.setattr(sentences_module, "SLACK", 0)


def wordpieces(folder):
    return train_wordpiece_tokenizer([(folder / "text.txt").read_text(), (folder / "films.csv").read_text()], 90)


def all_rows(made):
    train, held_out = made
    return [train, *(rows for corpora in held_out.values() for rows in corpora.values())]


def same(one, other):
    return list(map(content, all_rows(one))) == list(map(content, all_rows(other)))


def test_each_part_is_as_a_corpus_of_its_own_and_the_first_as_if_it_were_all(folder, in_parts):
    [corpus] = read_corpora(str(folder / "text.txt")).values()
    tokenizer = wordpieces(folder)
    specials = masked_specials(tokenizer)
    parts = list(corpus.parts("train"))
    assert len(parts) > 3
    documents = [encode_documents(part, tokenizer, longest=12) for part in parts]
    seeds = [3 + 1_000_003 * number for number in range(len(parts))]
    of_parts = [next_sentence_rows(some, 24, specials, seed=seed) for some, seed in zip(documents, seeds, strict=True)]
    assert list(CorpusRows(corpus, tokenizer, 24, "nsp").rows("train", 3)) == [*chain.from_iterable(of_parts)]


def test_the_first_part_of_the_training_texts_decides_whether_texts_are_short(folder, in_parts):
    [corpus] = read_corpora(str(folder / "films.csv")).values()
    tokenizer = wordpieces(folder)
    assert CorpusRows(corpus, tokenizer, 24, "nsp").is_short
    assert not CorpusRows(corpus, tokenizer, 8, "nsp").is_short
    train, _ = corpora_rows({"films": corpus}, tokenizer, 24, "nsp", seed=3)
    texts = [text for part in corpus.parts("train") for text in part]
    alone = single_rows(encode_documents(texts, tokenizer, longest=12), 24, masked_specials(tokenizer))
    assert content(train) == [(*row, 0) for row in alone]  # none is unknown


def test_rows_of_several_corpora_are_those_of_each_after_another(folder, in_parts):
    corpora, tokenizer = read_corpora(f"{folder / 'text.txt'},{folder / 'films.csv'}"), wordpieces(folder)
    alone = [corpora_rows({name: corpus}, tokenizer, 24, "nsp", seed=3)[0] for name, corpus in corpora.items()]
    together, _ = corpora_rows(corpora, tokenizer, 24, "nsp", seed=3)
    assert content(together) == [*chain.from_iterable(map(content, alone))]
    assert together.ids.dtype == torch.int16


def test_files_are_made_once_and_are_those_of_what_the_rows_follow_from(folder, cache, monkeypatch):
    tokenizers = [wordpieces(folder), train_roberta_tokenizer([(folder / "text.txt").read_text()], 300)]
    corpora = read_corpora(str(folder / "text.txt"))
    [corpus] = corpora.values()

    def made(tokenizer=tokenizers[0], context=24, task="nsp", seed=3, corpora=corpora):
        return corpora_rows(corpora, tokenizer, context, task, seed)

    first = made()
    # The training text also decides whether the texts of other splits are short.
    other = datasets.Dataset.from_dict({"text": ["Ten bottles. Nine."]})
    for others, new in (
        ({"tokenizer": tokenizers[1]}, 2),
        ({"context": 25}, 2),
        ({"task": None}, 2),
        ({"seed": 5}, 1),
        ({"corpora": {"short": Corpus({**corpus.splits, "train": other})}}, 2),
        ({"corpora": {"lines": Corpus(corpus.splits, LINE_ENDS)}}, 2),
        ({"corpora": {"other": Corpus({**corpus.splits, "validation": other})}}, 1),
    ):
        before = len(list(cache.glob("[!.]*")))
        made(**others)
        assert len(list(cache.glob("[!.]*"))) == before + new
    monkeypatch.setattr(masked_rows, "encode_documents", None)
    assert same(made(), first)


def test_a_tokenizer_learns_from_the_first_sentences_of_every_corpus(folder):
    corpora = read_corpora(f"{folder / 'text.txt'},{folder / 'films.csv'}")
    every = list(sentences_for_tokenizers(corpora))
    texts = [text for corpus in corpora.values() for part in corpus.parts("train") for text in part]
    assert every == [sentence for text in texts for sentence in text]
    with pytest.warns(UserWarning, match="trained on the first 0 MB of .*text.txt"):
        some = list(sentences_for_tokenizers(corpora, 5000))
    films = sum("film" in sentence for sentence in some)
    assert some == every[: len(some) - films] + every[every.index(some[-films]) :][:films]
    assert 5000 - 100 < sum(len(sentence.encode()) for sentence in some) < 5000 + 100
    assert films / len(some) == pytest.approx(sum("film" in sentence for sentence in every) / len(every), abs=0.1)
