"""The benchmark's sides do the same work."""

import pytest
import torch
from helpers_models import assert_close

from minitransformer.text_encoding import pad
from train.benchmark.joeynmt import joeynmt_search
from train.benchmark.timing import our_loss
from train.benchmark.translation import (
    BOS,
    EOS,
    PAD,
    Uncached,
    both_models,
    by_length,
    random_sentences,
    search,
    their_search,
)
from train.benchmark.translation_training import SMOOTHING, batches_of, their_loss

SIZES = dict(d_model=16, num_heads=4, d_ff=24, num_encoder_layers=1, num_decoder_layers=2)


def test_both_models_have_the_same_logits():
    torch.manual_seed(0)
    ours, theirs = both_models(SIZES, 50, max_length=16)
    assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    source, target = pad(random_sentences(3, 50, (3, 8)), PAD), torch.tensor([[2, 7, 8], [2, 9, 10], [2, 11, 12]])
    with torch.no_grad():
        logits = theirs(input_ids=source, attention_mask=(source != PAD).long(), decoder_input_ids=target).logits
        assert_close(ours(source, target, source != PAD), logits)


def test_both_sides_learn_from_the_same_loss():
    torch.manual_seed(0)
    ours, theirs = both_models(SIZES, 50, max_length=16, label_smoothing=SMOOTHING)
    sources, targets = (random_sentences(6, 50, (3, 8), seed=seed) for seed in (0, 1))
    [batch] = batches_of([(s, [BOS, *t]) for s, t in zip(sources, targets, strict=True)], [range(6)])
    assert (batch["source_ids"] == PAD).any() and (batch["target_ids"] == PAD).any()
    losses = our_loss(ours.train())(batch), their_loss(theirs.train())(batch)
    assert_close(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    assert_close(ours.output.weight.grad, theirs.lm_head.weight.grad)


def test_all_sides_find_the_same_texts_to_the_limit():
    torch.manual_seed(0)
    ours, theirs = both_models(SIZES, 50, max_length=16)
    batches = by_length(random_sentences(10, 50, (3, 8)), 4)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    found = search(ours, batches, 3)
    assert [len(text) for text in found] == [len(batch[-1]) for batch in batches for _ in batch]
    assert search(Uncached(ours), batches, 3) == found
    assert [
        text[:width] for text, width in zip(their_search(theirs, batches, 3), map(len, found), strict=True)
    ] == found
    assert len({token for text in found for token in text}) > 10  # the models write more than one word
    assert not any(EOS in text for text in found)


def test_joeynmt_takes_as_many_steps():
    pytest.importorskip("joeynmt", reason="JoeyNMT, which pins old versions of much, is installed by hand")
    batches = by_length(random_sentences(10, 50, (3, 8)), 4)
    found = joeynmt_search(SIZES, 50, 3)(batches)
    assert [len(text) for text in found] == [len(batch[-1]) for batch in batches for _ in batch]
