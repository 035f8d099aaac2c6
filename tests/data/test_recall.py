import pytest

from minitransformer.data.recall import recall_pairs
from minitransformer.errors import InputError


def test_target_is_the_key_asked_for_and_the_value_beside_it():
    for source, target in recall_pairs(200, pairs=5):
        memory, _, asked = source.partition("|")
        keys, values = memory[::2], memory[1::2]
        assert len(set(keys)) == len(keys) == 5
        assert target == asked + values[keys.index(asked)]


def test_sources_are_distinct_and_seeded():
    rows = recall_pairs(500, seed=3)
    assert len({source for source, _ in rows}) == 500
    assert recall_pairs(500, seed=3) == rows != recall_pairs(500, seed=4)


def test_every_value_and_every_place_is_asked_for():
    rows = recall_pairs(500, pairs=4)
    assert {target[1] for _, target in rows} == set("0123456789")
    assert {source[:-2:2].index(source[-1]) for source, _ in rows} == {0, 1, 2, 3}


def test_more_rows_than_there_are_is_an_input_error():
    assert len(recall_pairs(260, pairs=1)) == 260
    with pytest.raises(InputError, match="260 distinct rows"):
        recall_pairs(261, pairs=1)


@pytest.mark.parametrize("pairs", [0, 27])
def test_more_pairs_than_letters_is_an_input_error(pairs):
    with pytest.raises(InputError, match=f"pairs={pairs}"):
        recall_pairs(1, pairs=pairs)
