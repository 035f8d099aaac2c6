"""BERT: an encoder that sees both sides and learns to restore masked tokens (Devlin et al. 2019); by configuration also
RoBERTa (Liu et al. 2019) and ALBERT (Lan et al. 2020)."""

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from minitransformer.blocks import EncoderBlock, Stack
from minitransformer.dropout import Dropout
from minitransformer.errors import InputError
from minitransformer.models.base import Loss, Memory, Model, target_loss
from minitransformer.models.bert_config import BERTConfig
from minitransformer.models.bert_heads import MaskedHead, first_places, first_states, shared_in_groups
from minitransformer.models.transformer_parts import (
    attention_positions,
    block_options,
    final_norm,
    padding_and_positions,
)
from minitransformer.norms import make_norm
from minitransformer.positions import LearnedPositions
from minitransformer.pretrained import (
    ALBERTHubConfig,
    BERTHubConfig,
    RoBERTaHubConfig,
    export_pretrained,
    hub_class_of,
    load_pretrained,
)

NO_TARGET = -100
"""What stands in `targets` where there is nothing to predict."""


class BERT(Model):
    """Ids in, a vector for each of them out, which has seen the tokens on both sides."""

    config_class = BERTConfig

    def __init__(self, config: BERTConfig):
        super().__init__()
        c = self.config = config
        width = c.d_embedding or c.d_model
        self.embedding = nn.Embedding(c.vocab_size, width)
        learned = c.positions == "learned"
        self.positions = LearnedPositions(c.max_length + c.position_offset, width) if learned else None
        self.segments = nn.Embedding(c.num_segments, width)
        self.embedding_norm = make_norm(c.norm, width, eps=c.norm_eps, bias=c.bias)
        self.dropout = Dropout(c.dropout)
        self.widen = None if c.d_embedding is None else nn.Linear(width, c.d_model, bias=c.bias)
        scheme = attention_positions(c, bidirectional=True)
        blocks = [
            EncoderBlock(
                c.d_model,
                c.num_heads,
                c.d_ff or 4 * c.d_model,
                pre_norm=c.pre_norm,
                positions=scheme,
                qk_norm=c.qk_norm,
                activation_dropout=0.0,  # BERT has none inside its feed-forward
                **block_options(c),
            )
            for _ in range(c.num_hidden_groups or c.num_layers)
        ]
        self.encoder = Stack(shared_in_groups(blocks, c.num_layers), final_norm(c) if c.pre_norm else None)
        self.pooler = nn.Linear(c.d_model, c.d_model, bias=c.bias) if c.pooler else None
        self.masked_head = MaskedHead(self.embedding, c) if c.masked_head else None
        self.sentence_head = None if c.sentence_head is None else nn.Linear(c.d_model, 2, bias=c.bias)
        self.init_weights()

    def init_weights(self, *, zero_residual: bool = False) -> None:
        """Matrices and embeddings N(0, 0.02), biases 0, norms 1. With `zero_residual`, matrices that write to the
        residual stream are 0: every pre-norm block then starts as the identity."""
        for name, parameter in self.named_parameters():
            if zero_residual and name.endswith(("project_out.weight", "contract.weight")):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)

    def forward(
        self,
        ids: Int[Tensor, "batch time"],
        valid: Bool[Tensor, "batch time"] | None = None,
        segment_ids: Int[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Hidden states. `valid` is `ids != pad_id` and `segment_ids` 0 unless given."""
        return self.encode(ids, valid, segment_ids).states

    def encode(
        self,
        ids: Int[Tensor, "batch time"],
        valid: Bool[Tensor, "batch time"] | None = None,
        segment_ids: Int[Tensor, "batch time"] | None = None,
    ) -> Memory:
        """Hidden states and which of them belong to real tokens."""
        valid = self._valid(ids, valid)
        return Memory(self._states(ids, valid, segment_ids), valid)

    def pool(
        self, states: Float[Tensor, "batch time d_model"], valid: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch d_model"]:
        """tanh(W h), h the state of the first token, [CLS]: the first column, or the first that is `valid`."""
        return self._pooled(first_states(states, valid))

    def predict_tokens(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of the token that stands at each of the `states`, of which any rows may be given."""
        if self.masked_head is None:
            raise InputError("masked_head=False: the model predicts no tokens")
        return self.masked_head(states)

    def predict_sentence(
        self, states: Float[Tensor, "batch time d_model"], valid: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch 2"]:
        """Logits of a pair of sentences: 0 is consecutive ("nsp") or in order ("sop"), 1 is not."""
        return self._sentence_logits(first_states(states, valid))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """`batch` has `ids` (B, T), masked already, and `targets` (B, T), the masked tokens, elsewhere -100;
        `valid` and `segment_ids` as for `forward`; and where `sentence_labels` (B,) are, the sentence head has a term.
        """
        ids, targets = batch["ids"], batch["targets"]
        valid = self._valid(ids, batch.get("valid"))
        is_target = targets != NO_TARGET
        wanted, first = is_target, None
        if "sentence_labels" in batch:
            first = first_places(valid)
            wanted = is_target.scatter(1, first[:, None], True)
        rows = wanted.flatten().nonzero().squeeze(1)
        states = self._states(ids, valid, batch.get("segment_ids"), rows)
        masked = states if first is None else states[is_target.flatten()[rows]]
        losses = {"mlm": Loss(target_loss(self.predict_tokens(masked), targets[is_target]), is_target.sum())}
        if first is not None:
            starts = torch.arange(len(ids), device=ids.device) * ids.shape[1]
            logits = self._sentence_logits(states[torch.searchsorted(rows, starts + first)])
            total = target_loss(logits, batch["sentence_labels"])
            losses[self.config.sentence_head] = Loss(total, self.count_targets(batch)[self.config.sentence_head])
        return losses

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        counts = {"mlm": (batch["targets"] != NO_TARGET).sum()}
        if "sentence_labels" in batch:
            labels = batch["sentence_labels"]
            counts[self.config.sentence_head] = labels.new_tensor(len(labels))
        return counts

    def _states(self, ids: Tensor, valid: Tensor, segment_ids: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """States (B, T, D), or those of some `rows` (N, D), for which the last block does no more than it must."""
        if self.positions is not None and ids.shape[1] > self.config.max_length:
            raise InputError(f"{ids.shape[1]} tokens are more than the model's max_length={self.config.max_length}")
        # A graph of torch.compile cannot look at the values: there, a mask it is.
        unpadded = not torch.compiler.is_compiling() and bool(valid.all())
        mask, _, position_ids = padding_and_positions(ids, None if unpadded else valid)
        segments = self.segments.weight[0] if segment_ids is None else self.segments(segment_ids)
        states = self.embedding(ids) + segments
        if self.positions is not None:
            states = states + self.positions(position_ids + self.config.position_offset)
        states = self.dropout(self.embedding_norm(states))
        if self.widen is not None:
            states = self.widen(states)
        per_layer: list[dict[str, Tensor]] | None = None
        if rows is not None:
            per_layer = [{}] * (self.config.num_layers - 1) + [{"rows": rows}]
        return self.encoder(states, mask=mask, position_ids=position_ids, per_layer=per_layer)

    def _valid(self, ids: Tensor, valid: Tensor | None) -> Tensor:
        return ids != self.config.pad_id if valid is None else valid

    def _pooled(self, first: Tensor) -> Tensor:
        if self.pooler is None:
            raise InputError("pooler=False: the model has no vector for a whole text; pool its states")
        return torch.tanh(self.pooler(first))

    def _sentence_logits(self, first: Tensor) -> Tensor:
        if self.sentence_head is None:
            raise InputError("sentence_head=None: the model judges no pairs of sentences")
        return self.sentence_head(self._pooled(first))

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> "BERT":
        """A BERT, RoBERTa or ALBERT of Hugging Face's, from a folder or else the hub, in float32, in evaluation mode,
        on the CPU; "minilm" is all-MiniLM-L6-v2, see `checkpoint_folder`. Heads that the checkpoint lacks get new
        random weights, with a warning.

        Raises `InputError` for a checkpoint that is not there, is damaged, of another kind, or computes otherwise.
        """
        return load_pretrained(cls, (BERTHubConfig, RoBERTaHubConfig, ALBERTHubConfig), folder_or_hub_id)

    def export(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> Path:
        """Write a checkpoint that `transformers` reads as `BertForPreTraining`, `RobertaForMaskedLM` or
        `AlbertForPreTraining`, or as what they call a model of fewer heads; and with a `tokenizer`, `AutoTokenizer`.

        Raises `InputError` for a model that is none of them, naming the fields, and for a tokenizer of another
        vocabulary.
        """
        return export_pretrained(self, hub_class_of(self.config.to_dict()), folder, tokenizer)
