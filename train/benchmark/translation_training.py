"""Training steps of the Transformer against `transformers.MarianMTModel`, at the sizes of JoeyNMT's usual small model.

Both sides start from the same weights and learn the same sentences with label smoothing, dropout, a clipped gradient
and a fused AdamW. They are compared twice. On the same batches, the difference is the models' own. On batches of its
own, each side batches as it usually does: ours by length, theirs at random and padded to the longest.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from minitransformer.data.batching import token_batches
from minitransformer.models import Transformer
from minitransformer.text_encoding import pad
from train.benchmark.timing import Machine, epoch_of, our_loss, speeds, times_as_fast
from train.benchmark.translation import BOS, LENGTHS, PAD, SIZES, VOCAB, both_models, random_sentences

DROPOUT, SMOOTHING, BATCH_TOKENS, PAIRS = 0.1, 0.1, 4096, 2000
# The kind under which the profile counts each operation. All other operations count as the rest.
KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm"),
    "random numbers of dropout": ("random_", "bernoulli_"),
    "softmax and loss": ("_softmax", "_log_softmax", "_softmax_backward_data", "_log_softmax_backward_data"),
    "norms": ("native_layer_norm", "native_layer_norm_backward"),
    "AdamW": ("_fused_adamw_",),
}


def translation_training(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """Real target tokens per second of training, and where our time goes."""
    count = 60 if settings.quick else PAIRS
    pairs = random_pairs(count)
    lengths = torch.tensor([(len(source), len(target)) for source, target in pairs])
    by_length = token_batches(lengths, BATCH_TOKENS, seed=0)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    at_random = [rows.tolist() for rows in shuffled.split([len(rows) for rows in by_length])]
    rows = []
    for precision, dtype, peak in machine.precisions():
        for kind, their_rows in (("the same batches", by_length), ("batches of its own", at_random)):
            torch.manual_seed(0)
            ours, theirs = both_models(SIZES, VOCAB, max_length=64, dropout=DROPOUT, label_smoothing=SMOOTHING)
            contenders = {
                "ours": epoch_of(ours, our_loss(ours), batches_of(pairs, by_length), dtype),
                "theirs": epoch_of(theirs, their_loss(theirs), batches_of(pairs, their_rows), dtype),
            }
            real = int(lengths[:, 1].sum()) - count  # BOS is no target
            row: dict[str, Any] = {"kind": kind, "precision": precision}
            row |= speeds(contenders, real, rounds=settings.rounds, repeats=1)
            row["share_of_peak"] = operations(ours, lengths) * row["ours"] / real / peak
            row["real_tokens"] = int(lengths.sum()) / sum(
                len(rows) * int(lengths[rows].max(dim=0).values.sum()) for rows in by_length
            )
            row["profile"] = profile(contenders["ours"])
            console.print(
                f"translation 3 + 3 x 256, vocabulary {VOCAB:,}, dropout {DROPOUT}, {kind}, {precision}: "
                f"{row['ours']:,.0f} target tokens/s ({row['share_of_peak']:.0%} of the matmul peak, "
                f"{row['real_tokens']:.0%} of the slots are real) against {row['theirs']:,.0f}: "
                f"{times_as_fast(row)}"
            )
            rows.append(row)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in rows[-2]["profile"].items())
        console.print(f"where our time goes, {precision}: {shares}")
    return rows


def random_pairs(count: int) -> list[tuple[list[int], list[int]]]:
    """Sources, and targets that begin with BOS; a pair's sides are of similar length, as a translation is."""
    sources, targets = (random_sentences(count, VOCAB, LENGTHS, seed=seed) for seed in (0, 1))
    noise = (2 * torch.randn(count, generator=torch.Generator().manual_seed(0))).tolist()
    ordered = sorted(range(count), key=lambda i: len(targets[i]) + noise[i])
    return [(source, [BOS, *targets[i]]) for source, i in zip(sorted(sources, key=len), ordered, strict=True)]


def batches_of(pairs: Sequence[tuple[list[int], list[int]]], rows: Sequence[Sequence[int]]) -> list[dict[str, Tensor]]:
    """Sources, and targets that begin with BOS, padded on the right."""
    batches = []
    for some in rows:
        source = pad([pairs[i][0] for i in some], PAD)
        target = pad([pairs[i][1] for i in some], PAD)
        batches.append({"source_ids": source, "source_valid": source != PAD, "target_ids": target})
    return batches


def their_loss(model: Any) -> Callable[[dict[str, Tensor]], Tensor]:
    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        source, mask, target = batch["source_ids"], batch["source_valid"].long(), batch["target_ids"]
        logits = model(input_ids=source, attention_mask=mask, decoder_input_ids=target[:, :-1]).logits
        return F.cross_entropy(
            logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD, label_smoothing=SMOOTHING
        )

    return loss_of


def operations(model: Transformer, lengths: Tensor) -> int:
    """Floating-point operations of an epoch's matrix products over real tokens, forward and backward: 6 for each
    weight a token meets, and 12 for each coordinate of each pair of tokens that attend (6 where half are hidden)."""
    source, target = lengths[:, 0], lengths[:, 1] - 1
    encoder, decoder = (
        sum(p.numel() for p in part.parameters() if p.dim() > 1) for part in (model.encoder, model.decoder)
    )
    d_model, layers = model.config.d_model, len(model.decoder.layers)
    # The decoder's cross-attention projects keys and values from source tokens.
    of_memory = 2 * d_model * d_model * layers
    weights = (encoder + of_memory) * source + (decoder - of_memory + model.output.weight.numel()) * target
    attended = len(model.encoder.layers) * source**2 + layers * (source * target + target**2 // 2)
    return int((6 * weights + 12 * d_model * attended).sum())


def profile(epoch: Callable[[], Any]) -> dict[str, float]:
    """The share of an epoch's time that each kind of operation takes by itself."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        epoch()
    averages = profiler.key_averages()
    whole = sum(event.self_cpu_time_total for event in averages)
    names = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
    shares = dict.fromkeys([*KINDS, "the rest, pass by pass over memory"], 0.0)
    for event in averages:
        shares[names.get(event.key, "the rest, pass by pass over memory")] += event.self_cpu_time_total / whole
    return shares
