import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.data.masking import IGNORED, UNITS, MaskVocabulary, mask_tokens, ngram_units, row_keys, word_units
from minitransformer.errors import InputError
from minitransformer.tokenization import (
    masked_specials,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
)

PAD, UNK, CLS, SEP, MASK = range(5)
VOCAB_SIZE = 40


def vocabulary(share_of_continuations=0.4):
    """Ids 0 to 4 are special, and the last ones continue a word."""
    is_ordinary = np.arange(VOCAB_SIZE) > MASK
    continues = np.arange(VOCAB_SIZE) >= VOCAB_SIZE - share_of_continuations * (VOCAB_SIZE - 5)
    return MaskVocabulary(MASK, is_ordinary, continues)


def many_tokens(rows=500, length=200):
    """100,000 ordinary tokens between [CLS] and [SEP], with padding."""
    ids = torch.randint(MASK + 1, VOCAB_SIZE, (rows, length + 4))
    ids[:, 0], ids[:, length + 1], ids[:, length + 2 :] = CLS, SEP, PAD
    return ids


def fits(counts, expected):
    """Whether a chi-square test lets counts pass at a level of 0.001 (Wilson and Hilferty's approximation)."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    expected = expected * counts.sum() / expected.sum()
    degrees = len(counts) - 1
    statistic = ((counts - expected) ** 2 / expected).sum()
    z = ((statistic / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / math.sqrt(2 / (9 * degrees))
    return z < 3.09


def test_15_percent_are_picked_and_80_10_10_of_them_masked_replaced_and_kept():
    ids = many_tokens()
    masked, targets = mask_tokens(ids, range(len(ids)), vocabulary(), seed=0, epoch=0)
    picked = targets != IGNORED
    total, count = int((ids > MASK).sum()), int(picked.sum())
    assert total == 100_000
    assert fits([count, total - count], [0.15, 0.85])
    # A random token is the one that stood there once in 35 times.
    same = int((masked == ids)[picked].sum())
    masks = int((masked == MASK)[picked].sum())
    assert fits([masks, count - masks - same, same], [0.8, 0.1 * 34 / 35, 0.1 + 0.1 / 35])
    assert torch.equal(targets[picked], ids[picked])
    assert torch.equal(masked[~picked], ids[~picked])


def test_places_are_picked_evenly_along_a_row_and_independently_of_their_neighbours():
    ids = many_tokens()
    picked = mask_tokens(ids, range(len(ids)), vocabulary(), seed=1, epoch=0).targets[:, 1:201] != IGNORED
    assert fits(picked.sum(dim=0), np.ones(200))
    both = int((picked[:, 1:] & picked[:, :-1]).sum())
    assert fits([both, picked[:, 1:].numel() - both], [0.15**2, 1 - 0.15**2])
    both = int((picked[1:] & picked[:-1]).sum())
    assert fits([both, picked[1:].numel() - both], [0.15**2, 1 - 0.15**2])


def test_random_replacements_are_uniform_over_the_ordinary_tokens():
    ids = many_tokens()
    masked, _ = mask_tokens(ids, range(len(ids)), vocabulary(), seed=0, epoch=0, rate=1.0, masked=0.0, replaced=1.0)
    counts = torch.bincount(masked[:, 1:201].reshape(-1), minlength=VOCAB_SIZE)
    assert counts[: MASK + 1].sum() == 0
    assert fits(counts[MASK + 1 :], np.ones(VOCAB_SIZE - 5))


@pytest.mark.parametrize("units", UNITS)
def test_whatever_the_units_each_token_is_picked_with_the_rate(units):
    ids = many_tokens()
    shares = []
    for epoch in range(4):
        targets = mask_tokens(ids, range(len(ids)), vocabulary(), seed=0, epoch=epoch, units=units).targets
        shares.append((targets != IGNORED).sum().item() / 100_000)
    # Units of several tokens are fewer, so that the share varies more: about 0.0025 for n-grams of whole words.
    assert np.mean(shares) == pytest.approx(0.15, abs=0.005)


def test_ngrams_are_of_1_2_and_3_whole_words_with_probability_inverse_to_their_length():
    ids, words = many_tokens(), vocabulary()
    ordinary = words.is_ordinary[ids.numpy()]
    word = word_units(ids.numpy(), words)
    ngram = ngram_units(word, ordinary, row_keys(0, 0, range(len(ids))))
    lengths = []
    for row in range(len(ids)):
        of_row = [np.unique(word[row][(ngram[row] == unit) & ordinary[row]]) for unit in np.unique(ngram[row][1:201])]
        assert all(np.array_equal(unit, np.arange(unit[0], unit[-1] + 1)) for unit in of_row)
        lengths += [len(unit) for unit in of_row[:-3]]  # the last one is cut off by the end, the longer the likelier
    assert set(lengths) == {1, 2, 3}
    assert fits(np.bincount(lengths)[1:], [6 / 11, 3 / 11, 2 / 11])


rows_of_ids = st.lists(st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=12, max_size=12), min_size=1, max_size=5)
epochs, seeds = st.integers(0, 1000), st.integers(-5, 2**64)


@given(rows_of_ids, seeds, epochs, st.sampled_from(UNITS), st.sampled_from([0.01, 0.15, 0.9]))
def test_specials_are_never_picked_nor_put_and_a_row_with_text_has_a_target(rows, seed, epoch, units, rate):
    ids = torch.tensor(rows)
    before = ids.clone()
    masked, targets = mask_tokens(ids, range(len(ids)), vocabulary(), seed=seed, epoch=epoch, units=units, rate=rate)
    picked, special = targets != IGNORED, ids <= MASK
    assert torch.equal(ids, before)
    assert not (picked & special).any()
    assert torch.equal(masked[special], ids[special])
    assert torch.equal(picked.any(dim=1), (~special).any(dim=1))
    assert ((masked > MASK) | (masked == MASK) & picked)[~special].all()
    assert torch.equal(targets[picked], ids[picked])
    assert torch.equal(masked[~picked], ids[~picked])


@given(rows_of_ids, seeds, epochs, st.sampled_from(UNITS))
def test_a_row_is_masked_alone_as_in_any_batch(rows, seed, epoch, units):
    ids, numbers = torch.tensor(rows), [7 * row + 3 for row in range(len(rows))]
    together = mask_tokens(ids, numbers, vocabulary(), seed=seed, epoch=epoch, units=units, rate=0.4)
    padded = torch.nn.functional.pad(ids, (0, 3), value=PAD)
    for row in reversed(range(len(rows))):
        alone = mask_tokens(
            padded[row, None], [numbers[row]], vocabulary(), seed=seed, epoch=epoch, units=units, rate=0.4
        )
        assert torch.equal(alone.ids[0, :12], together.ids[row])
        assert torch.equal(alone.targets[0, :12], together.targets[row])


@given(rows_of_ids, seeds, epochs, st.sampled_from(["words", "ngrams"]))
def test_units_are_picked_whole(rows, seed, epoch, units):
    ids, numbers = np.array(rows), range(len(rows))
    ordinary, unit = vocabulary().is_ordinary[ids], word_units(ids, vocabulary())
    if units == "ngrams":
        unit = ngram_units(unit, ordinary, row_keys(seed, epoch, numbers))
    options = {"seed": seed, "epoch": epoch, "units": units, "rate": 0.4}
    picked = mask_tokens(torch.from_numpy(ids), numbers, vocabulary(), **options).targets.numpy() != IGNORED
    for row in numbers:
        for number in np.unique(unit[row][ordinary[row]]):
            assert len(np.unique(picked[row][ordinary[row] & (unit[row] == number)])) == 1


@pytest.mark.parametrize("units", UNITS)
def test_masks_differ_between_epochs_and_seeds_and_follow_from_them_alone(units):
    ids = many_tokens(50)

    def masked(seed, epoch):
        return mask_tokens(ids, range(50), vocabulary(), seed=seed, epoch=epoch, units=units)

    first, state = masked(0, 0), torch.get_rng_state()
    for other in (masked(0, 1), masked(1, 0)):
        both = ((first.targets != IGNORED) & (other.targets != IGNORED)).sum().item() / 10_000
        assert both == pytest.approx(0.15**2, abs=0.012)
    assert torch.equal(torch.get_rng_state(), state)
    np.random.seed(1)  # noqa: NPY002 - the state that must not matter
    torch.rand(1)
    assert all(torch.equal(one, other) for one, other in zip(first, masked(0, 0), strict=True))


def test_wordpieces_and_byte_pieces_that_continue_a_word_are_known_as_such():
    texts = ["the lowest and the slowest", "lower lands, slower!"]
    wordpiece, byte_bpe = train_wordpiece_tokenizer(texts, 60), train_roberta_tokenizer(texts, 270)
    for tokenizer in (wordpiece, byte_bpe):
        words = MaskVocabulary.of(tokenizer)
        assert words.mask_id == masked_specials(tokenizer).mask_id
        assert not words.is_ordinary[:5].any()
        assert words.is_ordinary[5:].all()
        encoding = tokenizer.encode("the slow lowlands")
        units = word_units(np.array([encoding.ids]), words)[0]
        spelled = {}
        for unit, token in zip(units.tolist(), encoding.tokens, strict=True):
            spelled[unit] = spelled.get(unit, "") + token.removeprefix("##").removeprefix("Ġ")
        assert list(spelled.values())[1:-1] == ["the", "slow", "lowlands"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": "letters"}, "units='letters' must be one of tokens, words, ngrams"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"masked": 0.8, "replaced": 0.3}, r"masked=0\.8, replaced=0\.3"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        mask_tokens(many_tokens(1), [0], vocabulary(), seed=0, epoch=0, **options)
