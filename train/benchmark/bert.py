"""BERT against `transformers`: training on masked tokens against `BertForMaskedLM`, and fine-tuning MiniLM against
`BertForSequenceClassification`.

Both sides see the same sentences with the same tokens masked, as many sentences a step as long as the steps are equal
in number, and both take a fused AdamW and clip the gradient. What differs is what each side does by itself: here
batches are of sentences of similar length, there they are random and padded to the longest, as the usual data collator
does. What is counted is real tokens. Rows that all are as long as the model leave nothing to pad, and show how much of
the difference is the model's own.
"""

import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from minitransformer.data.packaged import minilm, reviews
from minitransformer.models import BERT, BERTConfig, SequenceClassifier
from minitransformer.models.bert import NO_TARGET
from minitransformer.optim import adamw, clip_gradients
from minitransformer.tokenization import load_tokenizer
from train.benchmark.measuring import Machine, in_turns, ratio
from train.engine.loop import autocast

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


def batched(rows: Sequence[tuple[Tensor, Tensor]], size: int, *, by_length: bool) -> list[tuple[Tensor, Tensor]]:
    """Batches of `size` rows, padded to the longest of each."""
    order = sorted(rows, key=lambda row: len(row[0])) if by_length else rows
    pad = torch.nn.utils.rnn.pad_sequence
    batches = [
        (
            pad([ids for ids, _ in order[start : start + size]], batch_first=True, padding_value=PAD),
            pad([targets for _, targets in order[start : start + size]], batch_first=True, padding_value=NO_TARGET),
        )
        for start in range(0, len(rows), size)
    ]
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def epoch_of(
    model: torch.nn.Module, loss_of: Callable[[Any], Tensor], batches: Sequence[Any], dtype: torch.dtype | None
) -> Callable[[], None]:
    """A step for each of the batches: forward, backward, clip, AdamW."""
    optimizer = adamw(model, lr=1e-4)
    model.train()

    def epoch() -> None:
        for batch in batches:
            with autocast(torch.device("cpu"), dtype):
                loss = loss_of(batch)
            loss.backward()
            clip_gradients(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return epoch


def our_masked_loss(model: BERT) -> Callable[[tuple[Tensor, Tensor]], Tensor]:
    def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = model.loss({"ids": batch[0], "targets": batch[1]})["mlm"]
        return loss.total / loss.count

    return loss_of


def their_masked_loss(model: Any) -> Callable[[tuple[Tensor, Tensor]], Tensor]:
    def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
        ids, targets = batch
        return model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=targets).loss

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
            for precision, dtype in (("fp32", None), ("bf16", torch.bfloat16)):
                if dtype is not None and not machine.bfloat16_pays:
                    continue
                ours, theirs = masked_models(layers, width, heads, vocab_size, length)
                contenders = {
                    "ours": epoch_of(ours, our_masked_loss(ours), batches["ours"], dtype),
                    "theirs": epoch_of(theirs, their_masked_loss(theirs), batches["theirs"], dtype),
                }
                seconds = in_turns(contenders, rounds=settings.rounds, repeats=1)
                row: dict[str, Any] = {
                    "setting": f"{layers} x {width}, {kind}, {size} a batch",
                    "precision": precision,
                    "ratio": ratio(seconds["theirs"], seconds["ours"]),
                }
                for name, times in seconds.items():
                    row[name] = real / statistics.median(times)
                    row[f"{name}_real_tokens"] = real / sum(ids.numel() for ids, _ in batches[name])
                console.print(
                    f"masked tokens {row['setting']}, {precision}: {row['ours']:,.0f} tokens/s "
                    f"({row['ours_real_tokens']:.0%} of the slots are real) against {row['theirs']:,.0f} "
                    f"({row['theirs_real_tokens']:.0%}): {row['ratio']:.2f} times as fast",
                    highlight=False,
                )
                rows.append(row)
    return rows


def minilm_finetuning(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """Sentences per second of fine-tuning MiniLM on `reviews`, at the dropout it comes with: our classifier pools the
    mean, as its recipe does, theirs takes the pooler."""
    from transformers import BertForSequenceClassification

    corpus = reviews()["train"]
    tokenizer = load_tokenizer(minilm() / "tokenizer.json")
    names = sorted(set(corpus["label"]))
    count = 64 if settings.quick else FINETUNING_SENTENCES
    texts, labels = corpus["text"][:count], [names.index(label) for label in corpus["label"][:count]]
    sentences = [
        (torch.tensor(row.ids), torch.tensor([label]))
        for row, label in zip(tokenizer.encode_batch(texts), labels, strict=True)
    ]
    real = sum(len(ids) for ids, _ in sentences)
    batches = {name: batched(sentences, 32, by_length=name == "ours") for name in ("ours", "theirs")}
    rows = []
    for precision, dtype in (("fp32", None), ("bf16", torch.bfloat16)):
        if dtype is not None and not machine.bfloat16_pays:
            continue
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(masked-token|sentence) head")
            ours = SequenceClassifier(BERT.from_pretrained("minilm"), len(names))
        theirs = BertForSequenceClassification.from_pretrained(minilm(), num_labels=len(names))
        contenders = {
            "ours": epoch_of(ours, our_label_loss(ours), batches["ours"], dtype),
            "theirs": epoch_of(theirs, their_label_loss(theirs), batches["theirs"], dtype),
        }
        in_turns(contenders, rounds=1, repeats=1, warm_up=False)  # warms up once: what is timed is long enough
        seconds = in_turns(contenders, rounds=min(settings.rounds, 3), repeats=1, warm_up=False)
        row: dict[str, Any] = {"precision": precision, "ratio": ratio(seconds["theirs"], seconds["ours"])}
        for name, times in seconds.items():
            row[name] = count / statistics.median(times)
            row[f"{name}_epoch_seconds"] = len(corpus["text"]) / row[name]
            row[f"{name}_real_tokens"] = real / sum(ids.numel() for ids, _ in batches[name])
        console.print(
            f"fine-tuning MiniLM, {precision}: {row['ours']:.1f} sentences/s, an epoch of reviews in "
            f"{row['ours_epoch_seconds']:.0f} s ({row['ours_real_tokens']:.0%} of the slots are real) against "
            f"{row['theirs']:.1f}, {row['theirs_epoch_seconds']:.0f} s ({row['theirs_real_tokens']:.0%}): "
            f"{row['ratio']:.2f} times as fast",
            highlight=False,
        )
        rows.append(row)
    return rows


def our_label_loss(model: SequenceClassifier) -> Callable[[tuple[Tensor, Tensor]], Tensor]:
    def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = model.loss({"ids": batch[0], "valid": batch[0] != PAD, "labels": batch[1].squeeze(1)})["label"]
        return loss.total / loss.count

    return loss_of


def their_label_loss(model: Any) -> Callable[[tuple[Tensor, Tensor]], Tensor]:
    def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
        ids, labels = batch
        return model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels.squeeze(1)).loss

    return loss_of
