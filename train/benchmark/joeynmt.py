"""JoeyNMT's own beam search, if JoeyNMT is installed. It pins old versions of its dependencies, so no extra of ours
installs it (docs/training.md has the command)."""

import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from minitransformer.text_encoding import pad

Search = Callable[[Sequence[list[list[int]]]], list[list[int]]]
UNK, PAD, BOS, EOS = 0, 1, 2, 3


def joeynmt_search(sizes: dict[str, Any], vocab_size: int, beam_size: int) -> Search | None:
    """A search with a random Transformer of these sizes; None without JoeyNMT.

    It takes as many steps as the longest sentence of a batch has tokens. On a CPU JoeyNMT supports float32 only.
    """
    try:
        from joeynmt.model import build_model
        from joeynmt.search import beam_search
        from joeynmt.vocabulary import Vocabulary
    except ImportError:
        return None
    logging.getLogger("joeynmt.model").setLevel(logging.WARNING)
    specials = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "sep_token": None}
    ids = {"unk_id": UNK, "pad_id": PAD, "bos_id": BOS, "eos_id": EOS, "sep_id": None}
    words = [f"word{number}" for number in range(vocab_size - len(ids) + 1)]
    vocabulary = Vocabulary(words, SimpleNamespace(**specials, **ids, lang_tags=[]))
    side = {
        "type": "transformer",
        "num_heads": sizes["num_heads"],
        "hidden_size": sizes["d_model"],
        "ff_size": sizes["d_ff"],
        "dropout": 0.0,
        "embeddings": {"embedding_dim": sizes["d_model"], "scale": True, "dropout": 0.0},
    }
    encoder = {**side, "num_layers": sizes["num_encoder_layers"]}
    decoder = {**side, "num_layers": sizes["num_decoder_layers"]}
    model = build_model({"encoder": encoder, "decoder": decoder, "tied_embeddings": True}, vocabulary, vocabulary)
    model.eval()

    @torch.inference_mode()
    def search(batches: Sequence[list[list[int]]]) -> list[list[int]]:
        texts: list[list[int]] = []
        for batch in batches:
            source = pad(batch, PAD)
            mask = (source != PAD)[:, None]
            steps = source.shape[1]
            lengths = mask.sum(dim=2).squeeze(1)
            states, final, _, _ = model(return_type="encode", src=source, src_length=lengths, src_mask=mask)
            found, _, _ = beam_search(
                model,
                beam_size=beam_size,
                encoder_output=states,
                encoder_hidden=final,
                src_mask=mask,
                max_output_length=steps,
                min_output_length=steps + 1,  # so that no text ends early
                alpha=0.6,
                n_best=1,
            )
            texts += [row[:steps].tolist() for row in found]
        return texts

    return search
