import datasets
import pytest
import torch

from minitransformer.data import columns, pair_ids, remembered
from minitransformer.data.batching import Seq2SeqData
from minitransformer.tokenization import train_bpe_tokenizer, train_character_tokenizer

PAIRS = {
    "source": ["der Hund sieht eine Katze", "die Katze", "der Mann und der Hund", "Hund"] * 5,
    "target": ["the dog sees a cat", "the cat", "the man and the dog", "dog"] * 5,
}
BPE = train_bpe_tokenizer(PAIRS["source"], 60), train_bpe_tokenizer(PAIRS["target"], 50)
CHARACTERS = tuple(map(train_character_tokenizer, PAIRS.values()))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path))
    monkeypatch.setattr(columns, "ROWS", 3)
    return tmp_path / "tokens"


def split():
    return datasets.Dataset.from_dict(PAIRS)


def batches(data):
    """All there is to learn from, in the order of an epoch."""
    return [data.batch(rows) for rows in data.batches(60, seed=3, pool=2)]


@pytest.mark.parametrize("tokenizers", [BPE, CHARACTERS])
@pytest.mark.parametrize("limit", [None, 12])
def test_mapped_pairs_give_the_batches_of_those_in_memory(tokenizers, limit, cache, monkeypatch):
    found = []
    for large in (1 << 30, 0, 0):  # in memory, written, found again
        monkeypatch.setattr(remembered, "LARGE", large)
        data = Seq2SeqData(split(), *tokenizers)
        assert cache.exists() == (large == 0)
        found.append(data if limit is None else data.within(limit))
    in_memory, *mapped = found
    assert 0 < len(in_memory) <= 20
    for data in mapped:
        assert torch.equal(data.lengths, in_memory.lengths)
        for one, other in zip(batches(data), batches(in_memory), strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(list(cache.iterdir())) == 1


def test_pairs_within_a_limit_share_the_tokens_of_all():
    whole = Seq2SeqData(split(), *BPE)
    assert whole.within(6).ids is whole.ids
    assert whole.lengths.dtype == torch.int32


def test_the_file_is_that_of_these_pairs_and_tokenizers(cache, monkeypatch):
    monkeypatch.setattr(remembered, "LARGE", 0)
    changed = datasets.Dataset.from_dict(PAIRS | {"source": ["die Katze"] * 20})
    for each in (split(), changed, split().select(range(7))):
        for tokenizers in (BPE, CHARACTERS, BPE[::-1]):
            Seq2SeqData(each, *tokenizers)
    assert len(list(cache.iterdir())) == 9
    monkeypatch.setattr(pair_ids, "_parts", lambda *_: pytest.fail("are made again"))
    assert len(Seq2SeqData(split().select(range(7)), *BPE)) == 7


def test_a_few_rows_of_a_large_data_set_are_no_large_one(cache, monkeypatch):
    whole = split()
    monkeypatch.setattr(remembered, "LARGE", whole.data.nbytes // 2)
    Seq2SeqData(whole.select([5, 3]), *BPE)
    assert not cache.exists()
    Seq2SeqData(whole.select([5, 3, *range(6, 20)]), *BPE)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_a_large_vocabulary_has_four_bytes_a_token(large, cache, monkeypatch):
    monkeypatch.setattr(remembered, "LARGE", large)
    assert Seq2SeqData(split(), *BPE).ids.dtype == torch.int16
    monkeypatch.setattr(pair_ids, "vocabulary_size", lambda tokenizer: 1 << 15)
    data = Seq2SeqData(split(), *BPE)
    assert data.ids.dtype == torch.int32
    assert data.batch([0])["source_ids"].tolist() == [[*BPE[0].encode(PAIRS["source"][0]).ids[1:]]]
