"""Classifiers that pool otherwise than the classes of transformers, as folders of sentence-transformers."""

import json

import pytest
import torch
from helpers_bert import nudged
from helpers_checkpoints import edit_config, edit_tensors, refusal
from helpers_hub import ours_of
from sentence_transformers import SentenceTransformer

from minitransformer import BERT, Classifier, SequenceClassifier
from minitransformer.pipelines.loading import load_pipeline
from minitransformer.tokenization import train_roberta_tokenizer, train_wordpiece_tokenizer

TEXTS = ["the end of the world", "to be, or not to be: that is the question", "never"]
LABELS = ("good", "bad", "so so")


def classifier_of(case, pooling):
    train = train_roberta_tokenizer if case == "RoBERTa" else train_wordpiece_tokenizer
    tokenizer = train(TEXTS, 300)
    sizes = {"vocab_size": tokenizer.get_vocab_size(), "max_length": 64}
    encoder = ours_of(case, pooler=False, sentence_head=None, **sizes)
    return nudged(SequenceClassifier(encoder, 3, labels=LABELS, pooling=pooling)).eval(), tokenizer


@pytest.mark.parametrize(("case", "pooling"), [("BERT", "mean"), ("RoBERTa", "max"), ("ALBERT", "first")])
def test_sentence_transformers_gives_the_logits_of_an_exported_classifier(case, pooling, tmp_path):
    model, tokenizer = classifier_of(case, pooling)
    model.export(tmp_path, tokenizer)
    theirs = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS, convert_to_tensor=True, batch_size=2)
    probabilities = Classifier(model, tokenizer).probabilities(TEXTS)
    torch.testing.assert_close(theirs.softmax(dim=1), probabilities, rtol=0, atol=1e-5)


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_exported_classifier_is_read_with_its_head_and_exported_with_the_same_bytes(tmp_path):
    model, tokenizer = classifier_of("BERT", "mean")
    first = load_pipeline(model.export(tmp_path / "once/classifier", tokenizer))
    assert isinstance(first, Classifier)
    assert (first.model.config.labels, first.model.config.pooling) == (LABELS, "mean")
    assert torch.equal(first.probabilities(TEXTS), Classifier(model, tokenizer).probabilities(TEXTS))
    first.model.export(tmp_path / "twice/classifier", first.tokenizer)
    assert files_of(tmp_path / "once") == files_of(tmp_path / "twice")


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


WRONG = {
    "another pooling": (
        lambda f: edit_json(f / "1_Pooling" / "config.json", pooling_mode_max_tokens=True),
        "['pooling_mode_mean_tokens', 'pooling_mode_max_tokens'] must be one of",
    ),
    "an activation": (
        lambda f: edit_json(f / "2_Dense" / "config.json", activation_function="torch.nn.modules.activation.Tanh"),
        "activation_function='torch.nn.modules.activation.Tanh': only",
    ),
    "other tensors": (
        lambda f: edit_tensors(f / "2_Dense", lambda t: t.pop("linear.bias")),
        "must hold linear.weight and linear.bias: ['linear.weight']",
    ),
    "other labels": (lambda f: edit_config(f, id2label={"0": "a"}), "does not name 3 labels"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_head_that_computes_something_else_is_refused(wrong, tmp_path):
    model, _ = classifier_of("BERT", "mean")
    model.export(tmp_path)
    damage, says = WRONG[wrong]
    damage(tmp_path)
    assert says in refusal(SequenceClassifier.from_pretrained, tmp_path)


@pytest.mark.filterwarnings("ignore:.*has no masked-token head")
def test_a_folder_of_embeddings_is_no_classifier(tmp_path):
    model, tokenizer = classifier_of("BERT", "mean")
    model.export(tmp_path, tokenizer)
    config = (tmp_path / "config.json").read_text()
    edit_config(tmp_path, id2label=...)
    assert isinstance(load_pipeline(tmp_path).model, BERT)
    (tmp_path / "config.json").write_text(config)
    for modules in ("1", "{}", "[1, 2, 3]"):
        (tmp_path / "modules.json").write_text(modules)
        assert isinstance(load_pipeline(tmp_path).model, BERT)
