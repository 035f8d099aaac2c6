import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.data.batching import token_batches
from minitransformer.errors import InputError

sizes = st.integers(1, 30)
tables = st.lists(sizes, max_size=60) | st.lists(st.tuples(sizes, sizes), min_size=1, max_size=60).map(torch.tensor)
seeds = st.none() | st.integers(0, 2**32)


def padded_size(lengths, rows):
    chosen = torch.as_tensor(lengths)[rows].reshape(len(rows), -1)
    return len(rows) * int(chosen.amax(0).sum())


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
    state = torch.get_rng_state()
    found = token_batches(lengths, max_tokens, seed=seed, pool=pool)
    expected = batches_one_by_one(lengths, max_tokens, seed, pool)
    assert list(found) == expected
    assert found[1:3] == expected[1:3]
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(row for batch in expected for row in batch) == list(range(len(lengths)))


def test_max_tokens_must_be_positive():
    with pytest.raises(InputError, match="max_tokens=0"):
        token_batches([1], 0, seed=None)
