import minitransformer  # noqa: F401 - first: it shields the imports of a job, which take seconds, from Ctrl-C
from minitransformer.deprecated import MOVED

MOVED["train.scoring"] = {
    "stream_loss": "train.pretrain.gpt.stream_loss",
    "exact_match": "train.translate.exact_match",
    "character_accuracy": "train.translate.exact_match",
}
