"""BERT against `transformers`: training on masked tokens against `BertForMaskedLM`, and fine-tuning MiniLM against
`BertForSequenceClassification`.

Both sides see the same sentences with the same masked tokens. Both take as many steps, with a fused AdamW and a clipped
gradient. Each side makes its own batches: ours have sentences of similar length; theirs are random and padded to the
longest, as the usual data collator does. Speed counts real tokens. Rows as long as the model's context need no padding:
they show how much of the difference is the model's own.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from minitransformer.data import load
from minitransformer.data.corpora import minilm
from minitransformer.models import BERT, BERTConfig, SequenceClassifier
from minitransformer.models.bert import NO_TARGET
from minitransformer.tokenization import load_tokenizer
from train.benchmark.timing import Machine, epoch_of, in_turns, our_loss, speeds, times_as_fast

# layers, width, heads, vocabulary, length, rows a batch, batches
TRAINING = [(4, 128, 4, 4000, 64, 32, 16), (6, 384, 6, 8000, 128, 8, 8)]
FINETUNING_SENTENCES = 1024
PAD, CLS, SEP, MASK, FIRST = 0, 2, 3, 4, 5


def masked_sentences(count: int, vocab_size: int, lengths: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Ids with 15% of the tokens masked, and the targets; lengths are drawn evenly from `lengths`."""
    sentences = []
    for length in torch.randint(lengths[0], lengths[1] + 1, (count,)).tolist():
        ids = torch.randint(FIRST, vocab_size, (length,))
        ids[0], ids[-1] = CLS, SEP
        picked = 1 + torch.randperm(length - 2)[: max(1, round(0.15 * length))]
        targets = torch.full_like(ids, NO_TARGET)
        targets[picked] = ids[picked]
        ids[picked] = MASK
        sentences.append((ids, targets))
    return sentences


def batched(rows: Sequence[tuple[Tensor, Tensor]], size: int, *, by_length: bool) -> list[dict[str, Tensor]]:
    """Batches of `size` rows, padded to the longest of each."""
    order = sorted(rows, key=lambda row: len(row[0])) if by_length else rows
    pad = torch.nn.utils.rnn.pad_sequence
    batches = []
    for start in range(0, len(rows), size):
        chosen = order[start : start + size]
        ids = pad([ids for ids, _ in chosen], batch_first=True, padding_value=PAD)
        targets = pad([targets for _, targets in chosen], batch_first=True, padding_value=NO_TARGET)
        batches.append({"ids": ids, "valid": ids != PAD, "targets": targets})
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def real_shares(batches: Mapping[str, Sequence[dict[str, Tensor]]], real: int) -> dict[str, float]:
    """The share of real tokens in the slots of each side's batches."""
    return {f"{name}_real_tokens": real / sum(b["ids"].numel() for b in own) for name, own in batches.items()}


def their_loss(model: Any) -> Callable[[dict[str, Tensor]], Tensor]:
    """The loss that a model of `transformers` computes itself, over masked tokens or over labels."""

    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        targets = batch["targets"] if "targets" in batch else batch["labels"]
        return model(input_ids=batch["ids"], attention_mask=batch["valid"].long(), labels=targets).loss

    return loss_of


def masked_models(layers: int, width: int, heads: int, vocab_size: int, length: int) -> tuple[BERT, Any]:
    from transformers import BertConfig, BertForMaskedLM

    sizes = dict(vocab_size=vocab_size, max_length=length, d_model=width, num_heads=heads, num_layers=layers)
    ids = dict(pad_id=PAD, cls_id=CLS, sep_id=SEP, mask_id=MASK)
    ours = BERT(BERTConfig(**sizes, **ids, dropout=0.0, pooler=False, sentence_head=None))  # type: ignore[arg-type]
    theirs = BertForMaskedLM(
        BertConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    return ours, theirs


def bert_training(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """Real tokens per second of training on masked tokens."""
    rows = []
    for layers, width, heads, vocab_size, length, size, number in TRAINING[: 1 if settings.quick else None]:
        for lengths in ((length // 8, length), (length, length)):
            kind = f"rows of {lengths[0]} to {length}" if lengths[0] < length else f"rows of {length}"
            count = size * (2 if settings.quick else number)
            sentences = masked_sentences(count, vocab_size, lengths)
            real = sum(len(ids) for ids, _ in sentences)
            batches = {name: batched(sentences, size, by_length=name == "ours") for name in ("ours", "theirs")}
            for precision, dtype, _ in machine.precisions():
                ours, theirs = masked_models(layers, width, heads, vocab_size, length)
                contenders = {
                    "ours": epoch_of(ours, our_loss(ours), batches["ours"], dtype),
                    "theirs": epoch_of(theirs, their_loss(theirs), batches["theirs"], dtype),
                }
                setting = f"{layers} x {width}, {kind}, {size} a batch"
                row: dict[str, Any] = {"setting": setting, "precision": precision}
                row |= speeds(contenders, real, rounds=settings.rounds, repeats=1) | real_shares(batches, real)
                console.print(
                    f"masked tokens {row['setting']}, {precision}: {row['ours']:,.0f} tokens/s "
                    f"({row['ours_real_tokens']:.0%} of the slots are real) against {row['theirs']:,.0f} "
                    f"({row['theirs_real_tokens']:.0%}): {times_as_fast(row)}"
                )
                rows.append(row)
    return rows


def minilm_finetuning(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """Sentences per second of fine-tuning MiniLM on `reviews`, at the dropout it comes with: our classifier pools the
    mean, as its recipe does, theirs takes the pooler."""
    from transformers import BertForSequenceClassification

    corpus = load("reviews")["train"]
    tokenizer = load_tokenizer(minilm() / "tokenizer.json")
    names = corpus.features["label"].names
    count = 64 if settings.quick else FINETUNING_SENTENCES
    texts, labels = corpus["text"][:count], corpus["label"][:count]
    sentences = [
        (torch.tensor(row.ids), torch.tensor([label]))
        for row, label in zip(tokenizer.encode_batch(texts), labels, strict=True)
    ]
    real = sum(len(ids) for ids, _ in sentences)
    batches = {name: batched(sentences, 32, by_length=name == "ours") for name in ("ours", "theirs")}
    for batch in (*batches["ours"], *batches["theirs"]):
        batch["labels"] = batch.pop("targets").squeeze(1)
    rows = []
    for precision, dtype, _ in machine.precisions():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(masked-token|sentence) head")
            ours = SequenceClassifier(BERT.from_pretrained("minilm"), len(names))
        theirs = BertForSequenceClassification.from_pretrained(minilm(), num_labels=len(names))
        contenders = {
            "ours": epoch_of(ours, our_loss(ours), batches["ours"], dtype),
            "theirs": epoch_of(theirs, their_loss(theirs), batches["theirs"], dtype),
        }
        in_turns(contenders, rounds=1, repeats=1, warm_up=False)  # warms up once: what is timed is long enough
        row: dict[str, Any] = {"precision": precision, **real_shares(batches, real)}
        row |= speeds(contenders, count, rounds=min(settings.rounds, 3), repeats=1, warm_up=False)
        row |= {f"{name}_epoch_seconds": len(corpus["text"]) / row[name] for name in contenders}
        console.print(
            f"fine-tuning MiniLM, {precision}: {row['ours']:.1f} sentences/s, an epoch of reviews in "
            f"{row['ours_epoch_seconds']:.0f} s ({row['ours_real_tokens']:.0%} of the slots are real) against "
            f"{row['theirs']:.1f}, {row['theirs_epoch_seconds']:.0f} s ({row['theirs_real_tokens']:.0%}): "
            f"{times_as_fast(row)}"
        )
        rows.append(row)
    return rows
