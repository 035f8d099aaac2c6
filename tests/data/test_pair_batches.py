import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from minitransformer.data.pair_batches import Seq2SeqData
from minitransformer.errors import InputError
from minitransformer.text_encoding import pad
from minitransformer.tokenization import train_bpe_tokenizer, train_character_tokenizer

PAIRS = {
    "source": ["der Hund sieht eine Katze", "die Katze", "der Mann und der Hund", "Hund"] * 5,
    "target": ["the dog sees a cat", "the cat", "the man and the dog", "dog"] * 5,
}
BPE = train_bpe_tokenizer(PAIRS["source"], 60), train_bpe_tokenizer(PAIRS["target"], 50)
CHARACTERS = tuple(map(train_character_tokenizer, PAIRS.values()))
sizes = st.integers(1, 30)


@given(st.lists(st.tuples(st.text("abc ", max_size=8), st.text("xyz", max_size=8)), min_size=1, max_size=12), st.data())
def test_a_batch_holds_the_encoded_pairs_padded(pairs, data):
    sources, targets = map(list, zip(*pairs, strict=True))
    source_tokenizer, target_tokenizer = train_character_tokenizer(["abc "]), train_character_tokenizer(["xyz"])
    split = datasets.Dataset.from_dict({"source": sources, "target": targets})
    corpus = Seq2SeqData(split, source_tokenizer, target_tokenizer)
    rows = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=5))

    batch = corpus.batch(rows)

    eos = 3
    source_ids = [[*source_tokenizer.encode(sources[row], add_special_tokens=False).ids, eos] for row in rows]
    target_ids = [target_tokenizer.encode(targets[row]).ids for row in rows]
    assert torch.equal(batch["source_ids"], pad(source_ids, 0))
    assert torch.equal(batch["target_ids"], pad(target_ids, 0))
    assert torch.equal(batch["source_valid"], pad([[1] * len(ids) for ids in source_ids], 0).bool())
    assert len(corpus) == len(pairs)
    assert corpus.lengths[rows].tolist() == [[len(s), len(t)] for s, t in zip(source_ids, target_ids, strict=True)]


@given(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=12), st.integers(2, 35))
def test_within_keeps_the_pairs_that_are_short_on_both_sides_as_they_were(counts, limit):
    rows = {"source": ["a" * (s - 1) for s, _ in counts], "target": ["b" * (t - 1) for _, t in counts]}
    whole = Seq2SeqData(datasets.Dataset.from_dict(rows), *(train_character_tokenizer(["ab"]),) * 2)
    kept = [row for row, length in enumerate(whole.lengths.tolist()) if max(length) <= limit]
    short = whole.within(limit)
    assert short.lengths.tolist() == [whole.lengths[row].tolist() for row in kept]
    for place, row in enumerate(kept):
        one, same = short.batch([place]), whole.batch([row])
        assert all(torch.equal(one[name], same[name]) for name in same)


def test_a_tokenizer_without_the_specials_is_an_input_error():
    split = datasets.Dataset.from_dict({"source": ["a"], "target": ["a"]})
    bare = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(InputError, match=r"\[PAD\]"):
        Seq2SeqData(split, bare, bare)
