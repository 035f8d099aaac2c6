import pytest
import torch
from helpers_pieces import few_examples
from hypothesis import given
from hypothesis import strategies as st

from minitransformer import InputError, causal_mask, document_mask, padding_mask, sliding_window_mask

lengths = st.integers(0, 7)


@few_examples
@given(queries=lengths, keys=lengths, window=st.none() | st.integers(1, 9))
def test_causal_query_i_of_t_sees_keys_up_to_s_minus_t_plus_i_and_no_more_than_its_window(queries, keys, window):
    own = [keys - queries + i for i in range(queries)]
    expected = [[j <= i and (window is None or i - window < j) for j in range(keys)] for i in own]
    mask = causal_mask(queries, keys) if window is None else sliding_window_mask(queries, keys, window)
    assert mask.dtype == torch.bool and mask.dim() == 4 and mask.shape[:2] == (1, 1)
    assert mask[0, 0].tolist() == expected


@few_examples
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=4))
def test_padding_mask_hides_invalid_keys_of_a_row_from_all_its_queries_and_heads(rows):
    mask = padding_mask(torch.tensor(rows))
    assert mask.dtype == torch.bool and mask.shape == (len(rows), 1, 1, 3)
    assert mask[:, 0, 0].tolist() == rows


@few_examples
@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=3))
def test_tokens_see_their_own_document_only(rows):
    mask = document_mask(torch.tensor(rows))
    assert mask.dtype == torch.bool and mask.shape == (len(rows), 1, 4, 4)
    assert mask[:, 0].tolist() == [[[mine == other for other in row] for mine in row] for row in rows]


def test_masks_are_built_on_the_device_asked_for():
    assert causal_mask(2, 3, device="meta").device.type == "meta"
    assert sliding_window_mask(2, 3, 1, device="meta").device.type == "meta"


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_that_holds_not_even_the_query_is_refused(window):
    with pytest.raises(InputError, match=f"window={window} must be at least 1"):
        sliding_window_mask(2, 2, window)


@pytest.mark.parametrize("build", [lambda t, s: causal_mask(t, s), lambda t, s: sliding_window_mask(t, s, 1)])
def test_negative_lengths_are_refused(build):
    with pytest.raises(InputError, match="query_length=-1, key_length=2"):
        build(-1, 2)
    with pytest.raises(InputError, match="query_length=2, key_length=-1"):
        build(2, -1)
