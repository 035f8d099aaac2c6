"""How well a masked model restores masked tokens, and how well it judges pairs of sentences."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import IGNORED
from minitransformer.errors import InputError
from minitransformer.models import BERT


class Score(NamedTuple):
    """Sums over masked tokens, in nats, and over pairs of sentences."""

    nats: float = 0.0
    right: int = 0
    tokens: int = 0
    right_pairs: int = 0
    pairs: int = 0

    def figures(self) -> dict[str, float]:
        """Mean loss and accuracy over the masked tokens, and `sentence_accuracy` if there were pairs."""
        if not self.tokens:
            raise InputError("held-out text has no token to mask and predict: the tokenizer knows none of it")
        figures = {"loss": self.nats / self.tokens, "accuracy": self.right / self.tokens}
        return figures | ({"sentence_accuracy": self.right_pairs / self.pairs} if self.pairs else {})


def total(scores: Iterable[Score]) -> Score:
    return Score(*map(sum, zip(Score(), *scores, strict=True)))


@torch.inference_mode()
def masked_score(model: BERT, data: MaskedBatches, *, every: int = 1) -> Score:
    """The model's score on all rows of `data`, masked as in epoch 0. `every=n` reads only every n-th batch."""
    model.eval()
    scores, batches = [], data.in_order()
    for place in range(0, len(batches), every):
        batch = {name: tensor.to(model.device) for name, tensor in data.batch(batches[place]).items()}
        states = model(batch["ids"], batch["valid"], batch.get("segment_ids"))
        picked = batch["targets"] != IGNORED
        targets, logits = batch["targets"][picked], model.predict_tokens(states[picked]).float()
        nats = F.cross_entropy(logits, targets, reduction="sum").item()
        score = Score(nats, int((logits.argmax(dim=1) == targets).sum()), len(targets))
        if "sentence_labels" in batch and model.config.sentence_head is not None:
            guessed = model.predict_sentence(states).argmax(dim=1)
            right = int((guessed == batch["sentence_labels"]).sum())
            score = score._replace(right_pairs=right, pairs=len(guessed))
        scores.append(score)
    return total(scores)
