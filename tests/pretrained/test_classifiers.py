"""Classifiers of Hugging Face, read, and ours, written for them."""

import pytest
import torch
from helpers_bert import batch, nudged, saved
from helpers_checkpoints import edit_config, edit_tensors, refusal
from helpers_hub import ROTARY, ROTARY_SIZES, SIZES, assert_same_gradients_and_files, ours_of, read_quietly, theirs_of
from transformers import (
    AlbertForSequenceClassification,
    ArceeForSequenceClassification,
    AutoConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaForSequenceClassification,
    MistralForSequenceClassification,
    Qwen3ForSequenceClassification,
    RobertaForSequenceClassification,
    pipeline,
)

from minitransformer import BERT, Classifier, SequenceClassifier
from minitransformer.tokenization import (
    train_byte_bpe_tokenizer,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
)

LABELS = ("good", "bad", "so so")
NAMED = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
KINDS = {
    "BERT": BertForSequenceClassification,
    "RoBERTa": RobertaForSequenceClassification,
    "ALBERT": AlbertForSequenceClassification,
    "GPT-2": GPT2ForSequenceClassification,
    "Llama": LlamaForSequenceClassification,
    "Qwen3": Qwen3ForSequenceClassification,
    "Arcee": ArceeForSequenceClassification,
    "Mistral": MistralForSequenceClassification,
}
CAUSAL = {"GPT-2": GPT2Config(**SIZES, pad_token_id=0, **NAMED)}
for name in [name for name in KINDS if name in ROTARY]:
    config, settings, _ = ROTARY[name]
    CAUSAL[name] = config(**ROTARY_SIZES | settings, pad_token_id=0, **NAMED)


def theirs_with_head(case, folder):
    config = CAUSAL[case] if case in CAUSAL else theirs_of(case).config
    config.update(NAMED)
    theirs = nudged(KINDS[case](config))
    saved(theirs, folder)
    return theirs


@pytest.mark.parametrize("case", KINDS)
def test_a_read_classifier_computes_what_transformers_does_and_is_exported_with_the_same_bits(case, tmp_path):
    theirs = theirs_with_head(case, tmp_path / "theirs")
    ours = read_quietly(tmp_path / "theirs")
    assert isinstance(ours, SequenceClassifier)
    assert ours.config.labels == LABELS
    if case in CAUSAL:
        valid = torch.arange(7) < torch.tensor([[7], [4], [1]])
        ids = torch.randint(1, 11, valid.shape).masked_fill(~valid, 0)
        mine, other = ours(ids, valid), theirs(ids, attention_mask=valid.long()).logits
    else:
        ids, valid, segments = batch(ours.encoder)
        places = {} if case == "RoBERTa" else {"position_ids": (valid.long().cumsum(dim=1) - 1).clamp(min=0)}
        mine = ours(ids, valid, segments)
        other = theirs(ids, attention_mask=valid.long(), token_type_ids=segments, **places).logits
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)

    upstream = torch.randn_like(mine)
    mine.backward(upstream)
    other.backward(upstream)
    if case in CAUSAL:
        ours.output.bias.grad = None  # their head has none
    for parameter in ours.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    assert_same_gradients_and_files(ours, theirs, tmp_path)
    again = AutoConfig.from_pretrained(tmp_path / "ours")
    assert again.architectures == [KINDS[case].__name__]
    assert again.id2label == dict(enumerate(LABELS))


TEXTS = ["the end of the world", "to be, or not to be: that is the question", "never"]


@pytest.mark.parametrize("case", KINDS)
def test_a_pipeline_of_an_exported_classifier_gives_the_same_labels_and_probabilities(case, tmp_path):
    train = dict.fromkeys(CAUSAL, train_byte_bpe_tokenizer) | {"RoBERTa": train_roberta_tokenizer}
    tokenizer = train.get(case, train_wordpiece_tokenizer)(TEXTS, 300)
    ids = {"eos_id": tokenizer.token_to_id("[EOS]")} if case in CAUSAL else {}
    heads = {} if case in CAUSAL else {"pooler": True, "sentence_head": None}
    encoder = ours_of(case, vocab_size=tokenizer.get_vocab_size(), max_length=64, **ids, **heads)
    pooling = "last" if case in CAUSAL else "first"
    model = nudged(SequenceClassifier(encoder, 3, labels=LABELS, pooling=pooling))
    if case in ROTARY:
        model.output.bias.data.zero_()  # no norm of its has a bias to take that one
    ours = Classifier(model, tokenizer)
    model.export(tmp_path, tokenizer)
    again = Classifier.load(tmp_path)
    theirs = pipeline("text-classification", model=str(tmp_path), top_k=None, batch_size=2)(TEXTS)
    for text, scores, row, mine in zip(TEXTS, theirs, ours.probabilities(TEXTS), again(TEXTS), strict=True):
        found = {score["label"]: score["score"] for score in scores}
        assert [found[label] for label in LABELS] == pytest.approx(row.tolist(), abs=1e-5)
        assert mine.label == ours(text).label == scores[0]["label"]
        assert mine.probability == pytest.approx(scores[0]["score"], abs=1e-5)


@pytest.mark.parametrize(
    ("case", "pooling", "says"),
    [
        ("BERT", "last", "pooling='last' cannot be exported, since neither BERTForSequenceClassification nor"),
        ("RoBERTa", "attention", "has it, but mean, max, first: python -m train.finetune --pooling mean makes one"),
        ("GPT-2", "mean", "reads the last token: python -m train.finetune --pooling last makes one that can"),
        ("Llama", "last", "has no bias in its head: set that of the classifier's output to 0 first"),
    ],
)
def test_a_pooling_that_no_format_has_is_refused_with_the_way_out(case, pooling, says, tmp_path):
    model = nudged(SequenceClassifier(ours_of(case), 2, pooling=pooling))
    assert says in refusal(model.export, tmp_path / "new")
    assert not (tmp_path / "new").exists()


WRONG = {
    "several labels": (lambda f: edit_config(f, problem_type="regression"), "problem_type='regression': only one"),
    "too few names": (lambda f: edit_config(f, id2label={"0": "a"}), "id2label={'0': 'a'} does not name 3 labels"),
    "another width": (
        lambda f: edit_tensors(f, lambda t: t.update({"classifier.weight": torch.zeros(3, 1)})),
        "output.weight has shape (3, 1), not (3, 12)",
    ),
    "fp8": (
        lambda f: edit_tensors(f, lambda t: t.update({"classifier.weight": torch.ones(3, 12).to(torch.float8_e4m3fn)})),
        "output.weight holds torch.float8_e4m3fn, not floats",
    ),
    "a number for a matrix": (
        lambda f: edit_tensors(f, lambda t: t.update({"classifier.weight": torch.zeros(())})),
        "does not name 0 labels",
    ),
    "a number that is none": (
        lambda f: edit_tensors(f, lambda t: t["classifier.bias"].fill_(torch.nan)),
        "3 of the 3 numbers of output.bias are NaN",
    ),
    "no head": (
        lambda f: edit_tensors(f, lambda t: t.pop("classifier.weight")),
        "has no classification head, classifier.weight: python -m train.finetune --init makes one",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_head_that_does_something_else_is_refused(wrong, tmp_path):
    theirs_with_head("BERT", tmp_path)
    damage, says = WRONG[wrong]
    damage(tmp_path)
    assert says in refusal(SequenceClassifier.from_pretrained, tmp_path)


@pytest.mark.filterwarnings("ignore:.*has no masked-token head")
def test_labels_without_names_have_those_of_transformers(tmp_path):
    theirs_with_head("BERT", tmp_path)
    edit_config(tmp_path, id2label=...)
    assert read_quietly(tmp_path).config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    with pytest.warns(UserWarning, match="has a head of another task, which is left out"):
        assert BERT.from_pretrained(tmp_path).pooler is not None
