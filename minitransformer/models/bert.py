"""BERT: an encoder that sees both sides and learns to restore masked tokens (Devlin et al. 2019); by configuration also
RoBERTa (Liu et al. 2019) and ALBERT (Lan et al. 2020)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor, nn

from minitransformer.activations import ACTIVATIONS
from minitransformer.blocks import EncoderBlock, Stack
from minitransformer.dropout import Dropout
from minitransformer.errors import InputError
from minitransformer.models.base import (
    Ids,
    Loss,
    Memory,
    Model,
    Valid,
    embedded,
    require_rows_of,
    require_shape_of,
    target_loss,
)
from minitransformer.models.bert_config import BERTConfig
from minitransformer.models.transformer_parts import (
    attention_positions,
    block_arguments,
    final_norm,
    padding_and_positions,
    require_length,
)
from minitransformer.norms import make_norm
from minitransformer.onnx_export import write_onnx
from minitransformer.positions import LearnedPositions
from minitransformer.pretrained import (
    MASKED,
    export_pretrained,
    hub_class_of,
    load_pretrained,
)

NO_TARGET = -100
"""The value in `targets` where there is nothing to predict."""


class MaskedHead(nn.Module):
    """Linear, activation, norm, then a score for each token against its own embedding, plus a bias per token."""

    def __init__(self, embedding: nn.Embedding, config: BERTConfig):
        super().__init__()
        c, width = config, embedding.embedding_dim
        self.project = nn.Linear(c.d_model, width, bias=c.bias)
        self.activation = ACTIVATIONS[c.activation]
        self.norm = make_norm(c.norm, width, eps=c.norm_eps, bias=c.bias)
        self.output = nn.Linear(width, c.vocab_size, bias=c.bias)
        self.output.weight = embedding.weight

    def forward(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        return self.output(self.norm(self.activation(self.project(states))))


class BERT(Model):
    """Ids in, and for each of them a vector out, which depends on the tokens on both sides."""

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
            # BERT has no dropout inside its feed-forward.
            EncoderBlock(positions=scheme, activation_dropout=0.0, **block_arguments(c))
            for _ in range(c.num_hidden_groups or c.num_layers)
        ]
        # With groups, each block is used in several neighbouring layers.
        layers = [blocks[i * len(blocks) // c.num_layers] for i in range(c.num_layers)]
        self.encoder = Stack(layers, final_norm(c) if c.pre_norm else None)
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
        self, ids: Ids, valid: Valid | None = None, segment_ids: Ids | None = None, *, document_ids: Ids | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """Hidden states. `valid` defaults to `ids != pad_id`, `segment_ids` to 0. Rows may be packed: tokens with the
        same number in `document_ids` are a document, which gets the states that it gets in a row of its own."""
        return self.encode(ids, valid, segment_ids, document_ids=document_ids).states

    def encode(
        self, ids: Ids, valid: Valid | None = None, segment_ids: Ids | None = None, *, document_ids: Ids | None = None
    ) -> Memory:
        """Hidden states and which of them belong to real tokens."""
        valid = ids != self.config.pad_id if valid is None else valid
        return Memory(self._states(ids, valid, segment_ids, document_ids), valid)

    def pool(
        self, states: Float[Tensor, "batch time d_model"], valid: Valid | None = None
    ) -> Float[Tensor, "batch d_model"]:
        """tanh(W h), where h is the state of [CLS]: of the first column, or of the first token that is `valid`."""
        if self.pooler is None:
            raise InputError("pooler=False: the model has no vector for a whole text; pool its states")
        if not states.shape[1]:  # as for a row without a real token
            return torch.tanh(self.pooler(states.new_zeros(len(states), states.shape[2])))
        if valid is None:
            return torch.tanh(self.pooler(states[:, 0]))
        return torch.tanh(self.pooler(states[torch.arange(len(states), device=states.device), _first_places(valid)]))

    def predict_tokens(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of the token at each of the `states`."""
        if self.masked_head is None:
            raise InputError("masked_head=False: the model predicts no tokens")
        return self.masked_head(states)

    def predict_sentence(
        self, states: Float[Tensor, "batch time d_model"], valid: Valid | None = None
    ) -> Float[Tensor, "batch 2"]:
        """Logits of a pair of sentences: 0 is consecutive ("nsp") or in order ("sop"), 1 is not."""
        if self.sentence_head is None:
            raise InputError("sentence_head=None: the model judges no pairs of sentences")
        return self.sentence_head(self.pool(states, valid))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """`batch` has `ids` (B, T), already masked, and `targets` (B, T): the masked tokens, elsewhere -100. It may
        have `valid`, `segment_ids` and `document_ids`, as for `forward`, and `sentence_labels` (B,), which add a second
        term. Raises `InputError` for `sentence_labels` of packed rows, which hold more than one pair of sentences."""
        ids, targets, document_ids = batch["ids"], batch["targets"], batch.get("document_ids")
        of_tokens = {name: batch.get(name) for name in ("valid", "segment_ids", "document_ids")}
        require_shape_of(ids, targets=targets, **of_tokens)
        require_rows_of(ids, sentence_labels=batch.get("sentence_labels"))
        if document_ids is not None and "sentence_labels" in batch:
            raise InputError("sentence_labels are one for each row, but document_ids pack several documents into a row")
        if "sentence_labels" in batch and len(ids) and not ids.shape[1]:
            raise InputError("sentence_labels of rows without a token: there is no state to judge them by")
        valid = batch.get("valid", ids != self.config.pad_id)
        is_target = targets != NO_TARGET
        wanted = is_target
        if "sentence_labels" in batch:
            first = _first_places(valid)
            wanted = is_target.scatter(1, first[:, None], True)
        rows = wanted.flatten().nonzero().squeeze(1)
        states = self._states(ids, valid, batch.get("segment_ids"), document_ids, rows)
        masked = states[is_target.flatten()[rows]] if "sentence_labels" in batch else states
        counts = self.count_targets(batch)
        total = target_loss(self.predict_tokens(masked), targets[is_target], "targets")
        losses = {"mlm": Loss(total, counts["mlm"])}
        if "sentence_labels" in batch:
            starts = torch.arange(len(ids), device=ids.device) * ids.shape[1]
            of_first = states[torch.searchsorted(rows, starts + first)]
            judged = self.predict_sentence(of_first[:, None])
            total = target_loss(judged, batch["sentence_labels"], "sentence_labels")
            losses[self.config.sentence_head] = Loss(total, counts[self.config.sentence_head])
        return losses

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        counts = {"mlm": (batch["targets"] != NO_TARGET).sum()}
        if "sentence_labels" in batch:
            labels = batch["sentence_labels"]
            counts[self.config.sentence_head] = torch.full((), len(labels), device=labels.device)
        return counts

    def _states(
        self,
        ids: Tensor,
        valid: Tensor,
        segment_ids: Tensor | None,
        document_ids: Tensor | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """States (B, T, D), or (N, D) of the given `rows` alone, with less work in the last block."""
        require_shape_of(ids, valid=valid, segment_ids=segment_ids, document_ids=document_ids)
        # A graph of torch.compile cannot depend on the values, so it always has a mask.
        unpadded = not torch.compiler.is_compiling() and bool(valid.all())
        mask, _, position_ids = padding_and_positions(ids, None if unpadded else valid, document_ids)
        states = embedded(self.embedding, "ids", ids, self.config.vocab_size)
        if segment_ids is None:
            states = states + self.segments.weight[0]
        else:
            states = states + embedded(self.segments, "segment_ids", segment_ids, self.config.num_segments)
        if self.positions is not None:
            require_length(position_ids, self.config.max_length, packed=document_ids is not None)
            states = states + self.positions(position_ids + self.config.position_offset)
        states = self.dropout(self.embedding_norm(states))
        if self.widen is not None:
            states = self.widen(states)
        per_layer: list[dict[str, Tensor]] | None = None
        if rows is not None:
            per_layer = [{}] * (self.config.num_layers - 1) + [{"rows": rows}]
        return self.encoder(states, mask=mask, position_ids=position_ids, per_layer=per_layer)

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, dtype: torch.dtype = torch.float32) -> "BERT":
        """A Hugging Face checkpoint of BERT, RoBERTa or ALBERT, in `dtype`, in evaluation mode, on the CPU.

        The folder is looked up by `checkpoint_folder`; "minilm" is all-MiniLM-L6-v2. Heads that the checkpoint lacks
        get new random weights, with a warning. Raises `InputError` for a checkpoint that is missing, damaged, of
        another architecture, or not expressible here.
        """
        return load_pretrained(cls, MASKED, folder_or_hub_id, dtype)

    def export(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> Path:
        """Write a checkpoint that `transformers` reads: as `BertForPreTraining`, `RobertaForMaskedLM`,
        `AlbertForPreTraining` or their class with fewer heads, and with a `tokenizer` as `AutoTokenizer`.

        Raises `InputError` for a model that none of them can express, naming the fields, and for a tokenizer that does
        not fit the model.
        """
        return export_pretrained(self, hub_class_of(self.config.to_dict()), folder, tokenizer)

    def to_onnx(self, path: str | Path) -> Path:
        """Write an ONNX file, which gives `last_hidden_state` (batch, sequence, d_model), the states, for `input_ids`,
        `attention_mask` and, with several segments, `token_type_ids`: int64 of any batch and length.

        Raises `InputError` without the extra `onnx`, and for weights that are not float32.
        """
        return write_onnx(self, path, output="last_hidden_state", has_segments=self.config.num_segments > 1)


def _first_places(valid: Tensor) -> Tensor:
    """The column of each row's first real token; 0 for a row without one."""
    return F.pad(valid.long(), (0, 1)).argmax(dim=1)
