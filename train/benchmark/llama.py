"""Generation by a Llama of 135 million parameters against `transformers.LlamaForCausalLM`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from minitransformer.models import GPT
from train.benchmark.gpt import PROMPT, generation_speeds, print_generation
from train.benchmark.timing import Machine

NEW_TOKENS = 100
SIZES: dict[str, Any] = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
SIZES |= {"num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152}
"""SmolLM2-135M's (Allal et al. 2025)."""


def llama_generation(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """New tokens per second, greedy, with the cache of either side, and the same random weights."""
    rows = []
    sizes = {**SIZES, "num_hidden_layers": 1} if settings.quick else SIZES
    ours, theirs = llamas(sizes)
    new = 10 if settings.quick else NEW_TOKENS
    for precision, dtype, _ in machine.precisions(few_rows=True):
        ours, theirs = ours.to(dtype or torch.float32), theirs.to(dtype or torch.float32)
        for batch_size in (1, 8):
            row: dict[str, Any] = {"setting": f"{sizes['num_hidden_layers']} x 576, batch {batch_size}"}
            row["precision"] = precision
            options = {"rounds": min(settings.rounds, 3), "warm_up": False}
            row |= generation_speeds(ours, theirs, batch_size, new, machine, **options)
            print_generation(row, console)
            rows.append(row)
    return rows


def llamas(sizes: dict[str, Any]) -> tuple[GPT, Any]:
    """Theirs, and ours read from its checkpoint. Neither writes the end-of-text token, which would end its turn."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **sizes, tie_word_embeddings=True, max_position_embeddings=PROMPT + NEW_TOKENS, bos_token_id=0, eos_token_id=0
    )
    theirs = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        table = theirs.model.embed_tokens.weight
        table[0] = -10 * table[1:].mean(dim=0)
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = GPT.from_pretrained(Path(folder))
    theirs.generation_config.eos_token_id = None
    theirs.generation_config.pad_token_id = 0
    return ours, theirs
