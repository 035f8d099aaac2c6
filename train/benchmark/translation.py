"""Beam search against the same search without a cache, `transformers.MarianMTModel` and JoeyNMT."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

from minitransformer.generation import beam_search
from minitransformer.models import Memory, Transformer, TransformerConfig
from minitransformer.text_encoding import pad
from train.benchmark.joeynmt import joeynmt_search
from train.benchmark.timing import Machine, in_turns, ratios, times_as_fast

PAD, BOS, EOS = 0, 2, 3
SIZES: dict[str, Any] = dict(d_model=256, num_heads=4, d_ff=1024, num_encoder_layers=3, num_decoder_layers=3)
VOCAB, LENGTHS, SENTENCES, BEAMS = 8000, (8, 25), 1000, 5


class Prefixes(NamedTuple):
    """The state of a search without a cache: the sources and the tokens written so far."""

    memory: Memory
    ids: Tensor

    def select(self, rows: Tensor) -> "Prefixes":
        return Prefixes(self.memory.select(rows), self.ids[rows])


@dataclass(frozen=True)
class Uncached:
    """A Transformer that decodes as JoeyNMT does: each step reads the whole prefix again and uses the last logits."""

    model: Transformer

    @property
    def config(self) -> TransformerConfig:
        return self.model.config

    def start(self, inputs: Tensor, valid: Tensor | None = None, *, max_new_tokens: int) -> tuple[Tensor, Prefixes]:
        empty = inputs.new_empty(len(inputs), 0)
        return self.step(torch.full_like(inputs[:, 0], BOS), Prefixes(self.model.encode(inputs, valid), empty))

    def step(self, ids: Tensor, state: Prefixes) -> tuple[Tensor, Prefixes]:
        state = state._replace(ids=torch.cat([state.ids, ids[:, None]], dim=1))
        return self.model.output(self.model.decode(state.ids, state.memory))[:, -1], state


def both_models(
    sizes: dict[str, Any], vocab_size: int, max_length: int, *, dropout: float = 0.0, label_smoothing: float = 0.0
) -> tuple[Transformer, Any]:
    """A Transformer and a MarianMTModel with the same random weights, without dropout in attention. Neither ever
    chooses EOS.

    So both write to the limit. The tests show that they agree.
    """
    from transformers import MarianConfig, MarianMTModel

    ours = Transformer(
        TransformerConfig(
            **sizes,
            source_vocab_size=vocab_size,
            target_vocab_size=vocab_size,
            share_embeddings=True,
            tie_output=False,
            max_length=max_length,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            dropout=dropout,
            attention_dropout=0.0,
            label_smoothing=label_smoothing,
        )
    ).eval()
    config = MarianConfig(
        vocab_size=vocab_size,
        d_model=sizes["d_model"],
        encoder_layers=sizes["num_encoder_layers"],
        decoder_layers=sizes["num_decoder_layers"],
        encoder_attention_heads=sizes["num_heads"],
        decoder_attention_heads=sizes["num_heads"],
        encoder_ffn_dim=sizes["d_ff"],
        decoder_ffn_dim=sizes["d_ff"],
        max_position_embeddings=max_length,
        scale_embedding=True,
        activation_function="relu",
        pad_token_id=PAD,
        decoder_start_token_id=BOS,
        eos_token_id=EOS,
        forced_eos_token_id=None,
        dropout=dropout,
        activation_dropout=dropout,
        attention_dropout=0.0,
    )
    theirs = MarianMTModel(config).eval()
    with torch.no_grad():
        # A random model predicts the token it read last. Shifted weights predict its neighbour, or every text would
        # repeat one token.
        ours.output.weight.copy_(ours.target_embedding.weight.roll(1, dims=0))
        ours.output.weight.add_(0.5 * ours.output.weight.std() * torch.randn_like(ours.output.weight))
        ours.output.weight[EOS] = 0
        copy_weights(ours, theirs)
    return ours, theirs


def copy_weights(ours: Transformer, theirs: Any) -> None:
    """Into a MarianMTModel of the same sizes and shared embeddings. Its sinusoids are put in our order."""

    def same(mine: nn.Module, *others: nn.Module) -> None:
        for name, parameter in mine.named_parameters():
            for part, other in zip(parameter.chunk(len(others)), others, strict=True):
                getattr(other, name).copy_(part)

    theirs.get_input_embeddings().weight.copy_(ours.source_embedding.weight)
    theirs.lm_head.weight = nn.Parameter(ours.output.weight.clone())
    for stack, other_stack in ((ours.encoder, theirs.model.encoder), (ours.decoder, theirs.model.decoder)):
        table = other_stack.embed_positions.weight
        table.copy_(table.unflatten(1, (2, -1)).transpose(1, 2).flatten(1))
        for layer, other in zip(stack.layers, other_stack.layers, strict=True):
            mine: Any = layer
            attentions = [(mine.attention, other.self_attn)]
            same(mine.attention_residual.norm, other.self_attn_layer_norm)
            if hasattr(mine, "cross_attention"):
                attentions.append((mine.cross_attention, other.encoder_attn))
                same(mine.cross_attention_residual.norm, other.encoder_attn_layer_norm)
            for attention, other_attention in attentions:
                same(attention.project_in, other_attention.q_proj, other_attention.k_proj, other_attention.v_proj)
                same(attention.project_out, other_attention.out_proj)
            same(mine.feed_forward.expand, other.fc1)
            same(mine.feed_forward.contract, other.fc2)
            same(mine.feed_forward_residual.norm, other.final_layer_norm)


def random_sentences(count: int, vocab_size: int, lengths: tuple[int, int], seed: int = 0) -> list[list[int]]:
    """Random ids that end in EOS. Lengths are bell-shaped between `lengths`, like Multi30k's in subwords."""
    generator = torch.Generator().manual_seed(seed)
    low, high = lengths
    sizes = (torch.randn(count, generator=generator) * (high - low) / 4 + (low + high) / 2).round().clamp(low, high)
    return [
        [*torch.randint(EOS + 1, vocab_size, (int(size) - 1,), generator=generator).tolist(), EOS] for size in sizes
    ]


def by_length(sentences: Sequence[list[int]], batch_size: int) -> list[list[list[int]]]:
    ordered = sorted(sentences, key=len)
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def search(model: Any, batches: Sequence[list[list[int]]], beam_size: int) -> list[list[int]]:
    """The best text for each sentence, of at most as many tokens as the longest source of its batch."""
    texts = []
    for batch in batches:
        inputs = pad(batch, PAD)
        found = beam_search(model, inputs, inputs != PAD, max_new_tokens=inputs.shape[1], beam_size=beam_size)
        texts += [row[0].ids for row in found]
    return texts


@torch.inference_mode()
def their_search(model: Any, batches: Sequence[list[list[int]]], beam_size: int) -> list[list[int]]:
    texts: list[list[int]] = []
    for batch in batches:
        inputs = pad(batch, PAD)
        options = dict(num_beams=beam_size, do_sample=False, max_new_tokens=inputs.shape[1], length_penalty=0.6)
        texts += model.generate(inputs, attention_mask=(inputs != PAD).long(), **options)[:, 1:].tolist()
    return texts


def beam_search_speed(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """Sentences per second with five beams. Each side uses its fastest batch size, in float32 and, where it can, in
    bfloat16."""
    torch.manual_seed(0)
    ours, theirs = both_models(SIZES, VOCAB, max_length=64)
    joeynmt = joeynmt_search(SIZES, VOCAB, BEAMS)
    if joeynmt is None:
        console.print("JoeyNMT is not installed and is left out (see docs/training.md)")
    sentences = random_sentences(20 if settings.quick else SENTENCES, VOCAB, LENGTHS)
    setting = f"3 + 3 x 256, {BEAMS} beams, {len(sentences)} sentences of {LENGTHS[0]} to {LENGTHS[1]} tokens"
    labels = {"uncached": "the same search without a cache", "JoeyNMT": "JoeyNMT in fp32, all it has on a CPU"}
    rows: list[dict[str, Any]] = []
    for precision, dtype, _ in machine.precisions():
        ours, theirs = ours.to(dtype or torch.float32), theirs.to(dtype or torch.float32)
        sides: dict[str, Callable[..., Any]] = {
            "ours": partial(search, ours, beam_size=BEAMS),
            "uncached": partial(search, Uncached(ours), beam_size=BEAMS),
            "MarianMTModel": partial(their_search, theirs, beam_size=BEAMS),
        }
        row: dict[str, Any] = {"setting": setting, "precision": precision}
        if joeynmt is not None:
            sides["JoeyNMT"], row["JoeyNMT_precision"] = joeynmt, "fp32"
        seconds = seconds_of(sides, sentences, settings)
        row |= {name: len(sentences) / statistics.median(times) for name, times in seconds.items()}
        console.print(f"beam search, {setting}, {precision}: {row['ours']:,.1f} sentences/s")
        for name in list(sides)[1:]:
            row[f"{name}_ratios"] = ratios(seconds[name], seconds["ours"])
            label = labels.get(name, name)
            console.print(f"  {times_as_fast(row[f'{name}_ratios'])} as {label}, {row[name]:,.1f} sentences/s")
        rows.append(row)
    return rows


def seconds_of(
    sides: Mapping[str, Callable[..., Any]], sentences: Sequence[list[int]], settings: Any
) -> dict[str, list[float]]:
    """Of each side in each round, with the fastest of some batch sizes."""
    # Sentences of similar length, as in the batches of the whole set.
    middle, around = len(sentences) // 2, 10 if settings.quick else 80
    sample = sorted(sentences, key=len)[middle - around : middle + around]
    contenders = {}
    for name, side in sides.items():
        tried = {}
        for size in (8,) if settings.quick else (40, 80, 160):
            [tried[size]] = in_turns({name: partial(side, by_length(sample, size))}, rounds=1, repeats=1)[name]
        contenders[name] = partial(side, by_length(sentences, min(tried, key=tried.__getitem__)))
    return in_turns(contenders, rounds=min(settings.rounds, 2), repeats=1, warm_up=False)  # minutes each
