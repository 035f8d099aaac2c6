"""Scores of a masked model, and of the two baselines that count the training text."""

from collections import Counter, defaultdict

import pytest
import torch
from helpers_rows import stored

from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import IGNORED, MaskVocabulary
from minitransformer.data.packing import single_rows
from minitransformer.data.sentences import Document
from minitransformer.models import BERT, BERTConfig
from minitransformer.tokenization import masked_specials, train_wordpiece_tokenizer
from train.pretrain.bert.counting_baselines import CountingBaselines
from train.pretrain.bert.scores import masked_score

TOKENIZER = train_wordpiece_tokenizer(["abcdefg"], 5 + 14)
SPECIALS = masked_specials(TOKENIZER)
VOCABULARY = MaskVocabulary.of(TOKENIZER)


def texts_of(count, seed=0):
    """Texts of 9 tokens, of 6 kinds."""
    return (5 + torch.randint(6, (count, 9), generator=torch.Generator().manual_seed(seed))).tolist()


def rows_of(texts):
    return stored(single_rows([Document([text], number) for number, text in enumerate(texts)], 20, SPECIALS))


def held_out(texts):
    options = {"pad_id": SPECIALS.pad_id, "max_tokens": 500, "seed": 5, "units": "tokens"}
    return MaskedBatches(rows_of(texts), VOCABULARY, masked=1.0, replaced=0.0, **options)


def test_the_score_of_a_model_is_that_of_its_masked_tokens():
    ids = dict(cls_id=SPECIALS.cls_id, sep_id=SPECIALS.sep_id, mask_id=SPECIALS.mask_id)
    model = BERT(BERTConfig(TOKENIZER.get_vocab_size(), 20, d_model=8, num_heads=2, num_layers=1, **ids)).eval()
    data = held_out(texts_of(30))
    nats, right, count = 0.0, 0, 0
    for row in range(len(data.rows)):
        batch = data.batch([row])
        log_probabilities = model.predict_tokens(model(batch["ids"])[0]).log_softmax(dim=-1)
        for place, target in enumerate(batch["targets"][0].tolist()):
            if target != IGNORED:
                assert batch["ids"][0, place] == SPECIALS.mask_id
                nats -= log_probabilities[place, target].item()
                right += int(log_probabilities[place].argmax()) == target
                count += 1
    figures = masked_score(model, data).figures()
    assert figures["loss"] == pytest.approx(nats / count, abs=1e-5)
    assert figures["accuracy"] == right / count


def test_baselines_are_counts_of_the_training_text_backed_off_to_fewer_neighbours():
    """Against a slow account of the same rule, in dictionaries."""
    texts = texts_of(60)
    data = held_out(texts[40:])
    unigram, left, right, both = Counter(), defaultdict(Counter), defaultdict(Counter), defaultdict(Counter)
    for text in texts[:40]:
        row = [SPECIALS.cls_id, *text, SPECIALS.sep_id]
        for before, token, after in zip(row, row[1:], row[2:], strict=False):
            unigram[token] += 1
            left[before][token] += 1
            right[after][token] += 1
            both[before, after][token] += 1

    def best(counts):
        return min(counts, key=lambda token: (-counts[token], token))

    def share(counts):
        return max(counts.values()) / sum(counts.values()) if counts else 0.0

    def smoothed(counts, token, backoff):
        return (counts[token] + len(counts) * backoff) / (sum(counts.values()) + len(counts)) if counts else backoff

    nats, hits, count = Counter(), Counter(), 0
    for numbers in data.in_order():
        batch = data.batch(numbers)
        for row, place in (batch["targets"] != IGNORED).nonzero().tolist():
            target = int(batch["targets"][row, place])
            before, after = int(batch["ids"][row, place - 1]), int(batch["ids"][row, place + 1])
            sides = max((left[before], right[after]), key=share)
            guess = best(both[before, after] or sides or unigram)
            alone = (unigram[target] + 1) / (sum(unigram.values()) + TOKENIZER.get_vocab_size() - 5)
            mean = (smoothed(left[before], target, alone) + smoothed(right[after], target, alone)) / 2
            count += 1
            hits["unigram"] += best(unigram) == target
            hits["neighbours"] += guess == target
            nats["unigram"] -= torch.tensor(alone).log().item()
            nats["neighbours"] -= torch.tensor(smoothed(both[before, after], target, mean)).log().item()
    for name, score in CountingBaselines(rows_of(texts[:40]), VOCABULARY).scores(data).items():
        assert score.tokens == count
        assert score.right == hits[name]
        assert score.nats == pytest.approx(nats[name], rel=1e-4)


def test_baselines_of_a_large_corpus_count_runs_of_rows_from_all_over_it():
    rows = rows_of(texts_of(80))
    assert CountingBaselines(rows, VOCABULARY).counted == len(rows.ids) == 80 * 11
    baselines = CountingBaselines(rows, VOCABULARY, most_tokens=40 * 11 + 1, run=4)
    counted = rows_of([text for number, text in enumerate(texts_of(80)) if number // 4 % 2 == 0])
    assert baselines.counted == len(counted.ids)
    data = held_out(texts_of(30, seed=1))
    assert baselines.scores(data) == CountingBaselines(counted, VOCABULARY).scores(data)
