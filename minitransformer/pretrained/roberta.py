"""RoBERTa's settings and tensors as Hugging Face names them, where they differ from BERT's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from minitransformer.pretrained.bert import BERTHubConfig


@dataclass(frozen=True)
class RoBERTaHubConfig(BERTHubConfig):
    """`transformers.RobertaConfig`: positions begin at `pad_token_id + 1`; the beginning and end of a text serve as
    [CLS] and [SEP]."""

    model_type: ClassVar[str] = "roberta"
    prefix: ClassVar[str] = "roberta."
    title: ClassVar[str] = "RoBERTa"
    architectures: ClassVar[tuple[str, str, str]] = ("RobertaForMaskedLM", "RobertaForMaskedLM", "RobertaModel")
    sentence_task: ClassVar[str | None] = None
    head: ClassVar[str] = "lm_head."
    head_modules: ClassVar[Mapping[str, str]] = {"project": "dense", "norm": "layer_norm"}
    sentence_module: ClassVar[str] = "sentence_head"

    vocab_size: int = 50265
    pad_token_id: int = 1
    cls_token_id: int = 0
    sep_token_id: int = 2
    mask_token_id: int = 50264
    bos_token_id: int | None = 0
    eos_token_id: int | None = 2

    @classmethod
    def _offset(cls, pad_id: int) -> int:
        return pad_id + 1
