"""The benchmark's two sides do the same work."""

import math

import pytest
import torch
from helpers_bert import nudged
from transformers import BertForMaskedLM

from train.benchmark.bert import NO_TARGET, batched, masked_models, masked_sentences, their_loss
from train.benchmark.gpt import Rival
from train.benchmark.timing import our_loss
from train.pretrain.gpt.stream_loss import stream_loss


def plain(ids, targets):
    return ids[ids != 0].tolist(), targets[targets != NO_TARGET].tolist()


def test_both_sides_see_the_same_sentences_masked_alike():
    sentences = masked_sentences(12, 50, (4, 20))
    slots = []
    for by_length in (True, False):
        batches = batched(sentences, 4, by_length=by_length)
        assert [len(batch["ids"]) for batch in batches] == [4, 4, 4]
        rows = [plain(*row) for batch in batches for row in zip(batch["ids"], batch["targets"], strict=True)]
        assert sorted(rows) == sorted(plain(*sentence) for sentence in sentences)
        slots.append(sum(batch["ids"].numel() for batch in batches))
    assert slots[0] < slots[1]


def test_both_sides_have_the_same_loss(tmp_path):
    ours, theirs = masked_models(2, 16, 4, 50, 20)
    assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters())
    nudged(ours).export(tmp_path)
    theirs = BertForMaskedLM.from_pretrained(tmp_path)
    [batch] = batched(masked_sentences(5, 50, (4, 20)), 5, by_length=False)
    torch.testing.assert_close(our_loss(ours)(batch), their_loss(theirs)(batch), rtol=1e-5, atol=1e-5)


def test_the_rival_of_gpt_is_validated_as_ours_is():
    rival = Rival(layers=1, width=8, heads=2, context=8, vocab_size=9)
    assert stream_loss(rival, torch.randint(9, (50,)), 8) == pytest.approx(math.log(9), rel=0.1)
