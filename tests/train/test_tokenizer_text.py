import pytest

from train.engine.tokenizer_text import first


@pytest.mark.parametrize(("num_bytes", "count"), [(1, 1), (6, 1), (7, 2), (12, 2), (19, 4), (100, 4)])
def test_the_first_texts_end_with_the_one_that_brings_them_to_the_size(num_bytes, count, recwarn):
    texts = ["abc ab", "bé ab", "ab abc", "xyz"]
    assert list(first(texts, num_bytes)) == texts[:count]
    warned = ["the tokenizer is trained on the first 0 MB of the text"] * (count < len(texts))
    assert [str(each.message) for each in recwarn] == warned
