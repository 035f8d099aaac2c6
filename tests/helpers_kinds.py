"""One tiny model of every kind, for what holds of all of them: a function that makes it, and batches for its loss."""

import torch
from helpers_models import SOURCE_VOCAB, TARGET_VOCAB, fresh_gpt, nudged, tiny_rnn, tiny_transformer
from torch import nn

from minitransformer import BERT, BERTConfig, Memory, SequenceClassifier

VOCAB = 13


def bert(**options):
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "max_length": 16, "d_model": 16, "num_heads": 4, "num_layers": 2}
    ids = {"pad_id": 0, "cls_id": 2, "sep_id": 3, "mask_id": 4}
    return nudged(BERT(BERTConfig(**(sizes | ids | options)))).eval()


class OwnEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(VOCAB, 6)

    def encode(self, ids, valid=None):
        return Memory(self.table(ids), torch.ones_like(ids, dtype=torch.bool) if valid is None else valid)


def classifier(encoder, **options):
    torch.manual_seed(0)
    return nudged(SequenceClassifier(encoder(), 3, **options)).eval()


def modern():
    return fresh_gpt("rotary", 2, norm="rmsnorm", bias=False, qk_norm=True, activation="swiglu", logit_softcap=15.0)


KINDS = {
    "gpt": fresh_gpt,
    "modern gpt": modern,
    "bert": bert,
    "albert": lambda: bert(d_embedding=8, num_hidden_groups=1, activation="gelu_tanh", sentence_head="sop"),
    "transformer": tiny_transformer,
    "learned transformer": lambda: tiny_transformer(positions="learned", pre_norm=True),
    "relative transformer": lambda: tiny_transformer(positions="relative", norm="rmsnorm", num_kv_heads=2),
    "talk": tiny_rnn,
    "talk unmasked": lambda: tiny_rnn(masked=False, teacher_forcing=0.5),
    "bahdanau": lambda: tiny_rnn(attention="additive", bidirectional=True, num_layers=2, teacher_forcing=0.5),
    "luong": lambda: tiny_rnn(attention="local-p", input_feeding=True, cell="lstm", label_smoothing=0.1),
    "no attention": lambda: tiny_rnn(attention="none"),
    "bert classifier": lambda: classifier(bert, pooling="first"),
    "gpt classifier": lambda: classifier(fresh_gpt, pooling="last"),
    "rnn classifier": lambda: classifier(lambda: tiny_rnn(bidirectional=True), pooling="attention"),
    "transformer classifier": lambda: classifier(tiny_transformer, pooling="max"),
    "classifier of one's own encoder": lambda: classifier(OwnEncoder, d_model=6),
}
DECODERS = [name for name in KINDS if "classifier" not in name and "bert" not in name]
ENCODER_DECODERS = [name for name in DECODERS if "gpt" not in name]


def batch_for(name, *, rows=2, tokens=5, target=4):
    """What `loss` takes, of random ids that every vocabulary has, without the special ones."""
    ids = torch.randint(5, min(VOCAB, SOURCE_VOCAB), (rows, tokens))
    if "classifier" in name:
        return {"ids": ids, "labels": torch.randint(3, (rows,))}
    if name in ENCODER_DECODERS:
        target_ids = torch.randint(4, TARGET_VOCAB, (rows, target))
        target_ids[:, :1] = 2  # BOS
        return {"source_ids": ids, "source_valid": torch.ones_like(ids, dtype=torch.bool), "target_ids": target_ids}
    return {"ids": ids} if "gpt" in name else {"ids": ids, "targets": ids}
