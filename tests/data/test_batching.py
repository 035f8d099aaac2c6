import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.data.batching import Seq2SeqData, token_batches
from minitransformer.errors import InputError
from minitransformer.text_encoding import pad
from minitransformer.tokenization import train_character_tokenizer

sizes = st.integers(1, 30)
tables = st.lists(sizes, max_size=60) | st.lists(st.tuples(sizes, sizes), min_size=1, max_size=60).map(torch.tensor)
seeds = st.none() | st.integers(0, 2**32)


def padded_size(lengths, rows):
    chosen = torch.as_tensor(lengths)[rows].reshape(len(rows), -1)
    return len(rows) * int(chosen.amax(0).sum())


@given(tables, st.integers(1, 200), seeds)
def test_every_row_is_in_one_batch_and_no_batch_is_too_large(lengths, max_tokens, seed):
    batches = token_batches(lengths, max_tokens, seed=seed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(padded_size(lengths, batch) <= max_tokens or len(batch) == 1 for batch in batches)


@given(tables, st.integers(1, 200), st.integers(0, 2**32))
def test_batches_depend_on_the_seed_and_not_on_the_global_state(lengths, max_tokens, seed):
    state = torch.get_rng_state()
    batches = token_batches(lengths, max_tokens, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert token_batches(lengths, max_tokens, seed=seed) == batches


def batches_one_by_one(lengths, max_tokens, seed, pool):
    """What `token_batches` gives, row by row: resumed runs go by it, so it must stay what it is."""
    sizes = torch.as_tensor(lengths, dtype=torch.int64)
    sizes = sizes.unsqueeze(1) if sizes.ndim == 1 else sizes
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    order = torch.arange(len(sizes)) if generator is None else torch.randperm(len(sizes), generator=generator)
    pool_rows = len(sizes)
    if pool is not None and len(sizes):
        pool_rows = max(1, int(pool * max_tokens / sizes.sum(dim=1).float().mean()))
    for column in reversed(sizes.unbind(1)):
        order = torch.cat([rows[column[rows].argsort(stable=True)] for rows in order.split(max(1, pool_rows))])
    batches = []
    for row in order.tolist():
        if batches and padded_size(sizes, [*batches[-1], row]) <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    if generator is not None:
        batches = [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]
    return batches


many = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=150, max_size=200).map(torch.tensor)


@given(tables | many, st.integers(1, 2000), seeds, st.none() | st.integers(1, 4))
def test_batches_are_those_that_one_row_after_another_makes(lengths, max_tokens, seed, pool):
    found = token_batches(lengths, max_tokens, seed=seed, pool=pool)
    expected = batches_one_by_one(lengths, max_tokens, seed, pool)
    assert list(found) == expected
    assert found == expected
    assert found[1:3] == expected[1:3]
    assert found != [*expected, [0]]


def test_an_epoch_takes_four_bytes_a_row():
    batches = token_batches(torch.randint(1, 40, (1000, 2)), 2000, seed=0, pool=2)
    assert batches.order.dtype == torch.int32
    assert batches[-1] == batches[len(batches) - 1]
    with pytest.raises(IndexError, match=f"batch {len(batches)} of {len(batches)}"):
        batches[len(batches)]


def test_another_seed_gives_another_order():
    lengths = [5] * 50
    assert token_batches(lengths, 20, seed=0) != token_batches(lengths, 20, seed=1)


@given(tables, st.integers(1, 200))
def test_without_a_seed_rows_come_from_short_to_long(lengths, max_tokens):
    rows = [row for batch in token_batches(lengths, max_tokens, seed=None) for row in batch]
    ordered = torch.as_tensor(lengths)[rows].tolist()
    assert ordered == sorted(ordered)


def test_lengths_near_each_other_share_a_batch():
    lengths = [1, 100] * 50
    for seed in (None, 0):
        batches = token_batches(lengths, 1000, seed=seed)
        assert all(len({lengths[row] for row in batch}) == 1 for batch in batches if len(batch) > 10)
        assert sum(padded_size(lengths, batch) for batch in batches) < 1.2 * sum(lengths)


def test_max_tokens_must_be_positive():
    with pytest.raises(InputError, match="max_tokens=0"):
        token_batches([1], 0, seed=None)


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


def test_batches_keep_to_the_tokens_of_both_sides():
    split = datasets.Dataset.from_dict({"source": ["a" * n for n in range(40)], "target": ["a"] * 40})
    tokenizer = train_character_tokenizer(["a"])
    corpus = Seq2SeqData(split, tokenizer, tokenizer)
    for rows in corpus.batches(100, seed=0):
        batch = corpus.batch(rows)
        assert batch["source_ids"].numel() + batch["target_ids"].numel() <= 100


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
    from tokenizers import Tokenizer, models

    split = datasets.Dataset.from_dict({"source": ["a"], "target": ["a"]})
    bare = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(InputError, match=r"\[PAD\]"):
        Seq2SeqData(split, bare, bare)
