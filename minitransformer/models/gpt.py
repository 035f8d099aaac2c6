"""GPT: a causal model that predicts each next token (GPT-2: Radford et al. 2019)."""

import math
import warnings
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from minitransformer.blocks import EncoderBlock, Stack
from minitransformer.cache import KVCache
from minitransformer.checks import require_whole
from minitransformer.decodable import MOST_NEW_TOKENS
from minitransformer.dropout import Dropout
from minitransformer.kernels import enabled, output_loss, skinny_linear
from minitransformer.kernels.gpt_step import FlatStep
from minitransformer.models.base import (
    Ids,
    Loss,
    Memory,
    Model,
    Valid,
    embedded,
    look_first,
    require_known,
    require_rows_of,
    require_shape_of,
    target_loss,
)
from minitransformer.models.gpt_config import GPTConfig
from minitransformer.models.gpt_state import GPTState
from minitransformer.models.transformer_parts import (
    attention_positions,
    block_arguments,
    final_norm,
    head_size,
    left_padded,
    padding_and_positions,
    require_length,
)
from minitransformer.positions import LearnedPositions
from minitransformer.pretrained import CAUSAL, causal_class_of, export_pretrained, load_pretrained


class GPT(Model):
    """Ids in, logits for the token after each of them out."""

    config_class = GPTConfig

    def __init__(self, config: GPTConfig):
        super().__init__()
        c = self.config = config
        self.embedding = nn.Embedding(c.vocab_size, c.d_model)
        self.positions = LearnedPositions(c.max_length, c.d_model) if c.positions == "learned" else None
        self.dropout = Dropout(c.dropout)
        scheme = attention_positions(c, bidirectional=False)
        blocks = [
            # GPT-2 has no dropout inside its feed-forward.
            EncoderBlock(pre_norm=True, causal=True, positions=scheme, activation_dropout=0.0, **block_arguments(c))
            for _ in range(c.num_layers)
        ]
        self.decoder = Stack(blocks, final_norm(c))
        self.output = nn.Linear(c.d_model, c.vocab_size, bias=False)
        if c.tie_output:
            self.output.weight = self.embedding.weight
        self.init_weights()

    def init_weights(self, *, zero_residual: bool = False) -> None:
        """Matrices and embeddings N(0, 0.02), those that write to the residual stream divided by √(2 · layers), as
        in GPT-2, or 0 with `zero_residual`: every block then starts as the identity. Biases 0, norms 1."""
        residual_std = 0.0 if zero_residual else 0.02 / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.named_parameters():
            if name.endswith(("project_out.weight", "contract.weight")):
                nn.init.normal_(parameter, std=residual_std)
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self, ids: Ids, valid: Valid | None = None, *, document_ids: Ids | None = None
    ) -> Float[Tensor, "batch time vocab"]:
        """All of `ids` are real unless `valid` says otherwise. Rows may be packed: tokens with the same number in
        `document_ids` are a document, which gets the logits that it gets in a row of its own."""
        return self._logits(self.encode(ids, valid, document_ids=document_ids).states)

    def encode(self, ids: Ids, valid: Valid | None = None, *, document_ids: Ids | None = None) -> Memory:
        """Hidden states, in which no token has seen a later one, or one of another document."""
        require_shape_of(ids, valid=valid, document_ids=document_ids)
        mask, valid, position_ids = padding_and_positions(ids, valid, document_ids, window=self.config.sliding_window)
        if self.positions is not None:
            require_length(position_ids, self.config.max_length, packed=document_ids is not None)
        return Memory(self._states(ids, position_ids, mask), valid)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """`batch` has `ids` (B, T), `valid` (B, T) where they are padded, and `document_ids` (B, T) where packed:
        each real token predicts the next one of its document, wherever that stands in the row."""
        require_shape_of(batch["ids"], valid=batch.get("valid"), document_ids=batch.get("document_ids"))
        ids, targets = batch["ids"][:, :-1], batch["ids"][:, 1:]
        if "valid" not in batch and "document_ids" not in batch:
            # All are targets, and not to select them saves a pass over the states, and another backward.
            states = self.encode(ids).states
            total = self._target_loss(states.flatten(0, 1), targets.flatten())
            # Filled on the device: `torch.tensor` would copy the number there, and wait for the forward pass.
            return {"lm": Loss(total, torch.full((), targets.numel(), device=ids.device))}
        batch = _side_by_side(batch)
        ids, targets, is_target = batch["ids"][:, :-1], batch["ids"][:, 1:], _is_target(batch)
        valid, document_ids = (batch[name][:, :-1] if name in batch else None for name in ("valid", "document_ids"))
        states = self.encode(ids, valid, document_ids=document_ids).states
        return {"lm": Loss(self._target_loss(states[is_target], targets[is_target]), is_target.sum())}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"lm": _is_target(_side_by_side(batch)).sum()}

    @torch.no_grad()
    def start(
        self, inputs: Ids, valid: Valid | None = None, *, max_new_tokens: int
    ) -> tuple[Float[Tensor, "batch vocab"], GPTState]:
        """Read the prompts, with padding anywhere: logits of the first new token.

        A prompt without tokens starts from `bos_id`. Of a prompt longer than `max_length` the model reads the last
        part, with a warning.
        """
        limit = self.config.max_length
        require_whole("max_new_tokens", max_new_tokens, at_least=0, at_most=MOST_NEW_TOKENS)
        require_shape_of(inputs, valid=valid)
        require_known("ids", inputs, self.config.vocab_size)
        valid = torch.ones_like(inputs, dtype=torch.bool) if valid is None else valid
        if not inputs.shape[1] or not bool(valid.any(dim=1).all()):
            start_id = self.config.eos_id if self.config.bos_id is None else self.config.bos_id
            first = inputs.new_full((len(inputs), 1), start_id)
            inputs, valid = (
                torch.cat([first, inputs], dim=1),
                torch.cat([~valid.any(dim=1, keepdim=True), valid], dim=1),
            )
        inputs, padding = left_padded(inputs, valid)
        if (length := inputs.shape[1]) > limit:
            warnings.warn(f"a prompt of {length} tokens: the model reads the last {limit}, its context", stacklevel=2)
            inputs, padding = inputs[:, -limit:], None if padding is None else padding[:, -limit:]
        return self._read(inputs, padding, num_slots=min(inputs.shape[1] + max_new_tokens, limit))

    @torch.no_grad()
    def step(self, ids: Int[Tensor, " batch"], state: GPTState) -> tuple[Float[Tensor, "batch vocab"], GPTState]:
        """Read one more token per row: logits of the next. `state` is updated in place, and returned or replaced.

        When the context is full, learned positions start again from its last half, row by row; other schemes drop the
        oldest token, as under a `sliding_window_mask` of `max_length`.
        """
        require_rows_of(state.ids, ids=ids)
        look_first("ids", ids, self.config.vocab_size)
        if self.positions is not None and state.caches[0].num_seen == self.config.max_length:
            return self._read(*state.last_half(ids), num_slots=self.config.max_length)
        mask = state.append(ids)
        if enabled("gpt_step") and state.flat is not None and state.flat.parts.unchanged():
            flat, caches = state.flat, state.caches
            if ids.is_cuda and enabled("gpt_graph") and state.graph.takes(flat, caches):
                logits = state.graph(ids, flat, self._logits, caches, state.position_ids, state.valid)
                state.position_ids = state.position_ids + 1
                return logits, state
            try:
                states = flat(ids, state.position_ids, mask, caches)
            except IndexError:
                require_known("ids", ids, self.config.vocab_size)
                raise
        else:
            per_layer = [{"cache": cache} for cache in state.caches]
            states = self._states(ids[:, None], state.position_ids, mask, per_layer)[:, 0]
        state.position_ids = state.position_ids + 1
        return self._logits(states), state

    def _read(self, ids: Tensor, valid: Tensor | None, *, num_slots: int) -> tuple[Tensor, GPTState]:
        """Logits after `ids`, which are padded on the left where not `valid`, and a state with `num_slots`."""
        c, window = self.config, min(self.config.sliding_window or num_slots, num_slots)
        size = len(ids), c.num_kv_heads or c.num_heads, max(window, ids.shape[1]), head_size(c)
        like = self.embedding.weight
        caches = [KVCache(*size, dtype=like.dtype, device=like.device) for _ in self.decoder.layers]
        mask, _, position_ids = padding_and_positions(ids, valid, window=c.sliding_window)
        states = self._states(ids, position_ids, mask, [{"cache": cache} for cache in caches])
        if ids.shape[1] > window:  # later tokens do not see the others
            caches = [cache.newest(window) for cache in caches]
            ids, valid = ids[:, -window:], None if valid is None else valid[:, -window:]
        flat = FlatStep.of(self) if type(self) is GPT else None
        context = min(c.max_length, c.sliding_window or c.max_length)
        state = GPTState(caches, position_ids[:, -1:] + 1, ids, valid, flat, max_length=context)
        return self._logits(states[:, -1]), state

    def _states(
        self, ids: Tensor, position_ids: Tensor, mask: Tensor | None, per_layer: list[dict[str, KVCache]] | None = None
    ) -> Tensor:
        states = embedded(self.embedding, "ids", ids, self.config.vocab_size)
        if self.positions is not None:
            states = states + self.positions(position_ids)
        return self.decoder(self.dropout(states), mask=mask, position_ids=position_ids, per_layer=per_layer)

    def _target_loss(
        self, states: Float[Tensor, "targets d_model"], targets: Int[Tensor, " targets"]
    ) -> Float[Tensor, ""]:
        if enabled("output_loss") and self.config.logit_softcap is None and output_loss.fits(states, self.output):
            require_known("ids", targets, self.config.vocab_size)
            return output_loss.output_loss(states, self.output.weight, targets)
        return target_loss(self._logits(states), targets, "ids")

    def _logits(self, states: Tensor) -> Tensor:
        logits, cap = skinny_linear.through(self.output, states), self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, dtype: torch.dtype = torch.float32) -> "GPT":
        """A Hugging Face checkpoint of GPT-2, Llama, Qwen3, Arcee or Mistral, from a folder or else the hub, in
        `dtype`, in evaluation mode, on the CPU.

        Raises `InputError` for a checkpoint that is missing, damaged, of another architecture, or set to compute
        something else.
        """
        return load_pretrained(cls, CAUSAL, folder_or_hub_id, dtype)

    def export(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> Path:
        """Write a checkpoint that `transformers` reads, as `GPT2LMHeadModel`, `LlamaForCausalLM`, `Qwen3ForCausalLM`,
        `ArceeForCausalLM` or `MistralForCausalLM`, and with a `tokenizer` as `AutoTokenizer`.

        Raises `InputError` for a model that none of them can express, naming the fields, and for a tokenizer of another
        vocabulary.
        """
        return export_pretrained(self, causal_class_of(self.config.to_dict()), folder, tokenizer)


def _side_by_side(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same rows with the real tokens of each document next to one another, in their order, and padding last."""
    ids = batch["ids"]
    if not {"valid", "document_ids"} & batch.keys():
        return batch
    documents = batch.get("document_ids", torch.zeros_like(ids))
    if "valid" in batch:
        documents = documents.masked_fill(~batch["valid"], torch.iinfo(documents.dtype).max)
    order = documents.argsort(dim=1, stable=True)
    return {name: batch[name].gather(1, order) for name in ("ids", "valid", "document_ids") if name in batch}


def _is_target(batch: dict[str, Tensor]) -> Bool[Tensor, "batch targets"]:
    """A token is a target where it is real and has a real one of its document before it to predict it."""
    is_target = torch.ones_like(batch["ids"][:, 1:], dtype=torch.bool)
    if "valid" in batch:
        is_target = batch["valid"][:, 1:] & batch["valid"][:, :-1]
    if "document_ids" in batch:
        is_target = is_target & (batch["document_ids"][:, 1:] == batch["document_ids"][:, :-1])
    return is_target
