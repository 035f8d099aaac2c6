import json
import math
import random

import pytest
import torch
from helpers_scripts import results_of
from transformers import pipeline

import minitransformer
from minitransformer.data import load
from minitransformer.models import BERT, GPT, BERTConfig, GPTConfig, SequenceClassifier, Transformer, TransformerConfig
from minitransformer.pipelines.classifier import Classifier
from minitransformer.tokenization import load_tokenizer
from train.finetune.__main__ import main
from train.finetune.starting_model import with_dropout
from train.pretrain.__main__ import main as pretrain

pytestmark = pytest.mark.usefixtures("as_users_run_it")
SMALL = ["--d-model", "16", "--num-layers", "1", "--num-heads", "2"]
SCRATCH = ["--init", "scratch", *SMALL]
GOOD, BAD, PLAIN = ("good", "great", "witty"), ("bad", "dull", "weak"), ("film", "plot", "story", "cast", "scene")


def sentences(count, seed=0):
    """Texts whose label depends on one word."""
    draw = random.Random(seed)
    rows = {}
    while len(rows) < count:
        label = draw.choice(("negative", "positive"))
        words = [draw.choice(PLAIN) for _ in range(draw.randint(1, 6))]
        words.insert(draw.randint(0, len(words)), draw.choice(GOOD if label == "positive" else BAD))
        rows[" ".join(words)] = label
    return list(rows.items())


def write(path, rows):
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "films.tsv", sentences(200))


def start(data, folder, *arguments):
    main(["--data", str(data), "--out", str(folder), "--device", "cpu", "--threads", "1", *arguments])
    return results_of(folder)


def said(capsys):
    """What was printed, without white space, because lines are wrapped."""
    return "".join(capsys.readouterr().out.split())


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A classifier that has learned the task, with attention pooling."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--encoder", "bert", "--pooling", "attention", "--dropout", "0", "--epochs", "8", "--lr", "0.02"]
    start(data, folder, *SCRATCH, *options, "--max-tokens", "200")
    return folder


def test_the_run_folder_holds_the_figures_the_model_and_its_tokenizer(run, data):
    results, corpus, classifier = results_of(run), load(data, kind="labelled"), Classifier.load(run)
    names, true = corpus["test"].features["label"].names, corpus["test"]["label"][:]
    guesses = [guess.label for guess in classifier(corpus["test"]["text"][:])]
    right = [guess == names[label] for guess, label in zip(guesses, true, strict=True)]
    assert results["accuracy"] == sum(right) / len(right) > 0.9
    assert results["labels"] == ["negative", "positive"] == list(classifier.labels)
    assert sum(map(sum, results["confusion"])) == len(true)
    assert results["interval"][0] < results["accuracy"] <= results["interval"][1]
    assert 0 < results["macro_f1"] <= 1
    assert results["seconds"] > 0
    assert results["parameters"] == classifier.model.num_parameters()
    assert results["history"][-1]["step"] <= results["steps"]
    assert sorted(results["baselines"]) == ["TF-IDF + logistic regression", "naive Bayes"]


def test_the_weights_are_those_of_the_best_evaluation(run, data):
    results, validation = results_of(run), load(data, kind="labelled")["validation"]
    true = validation["label"][:]
    probabilities = Classifier.load(run).probabilities(validation["text"][:])
    best = max(results["history"], key=lambda evaluation: (evaluation["accuracy"], -evaluation["loss"]))
    assert results["best_step"] == best["step"]
    assert best["loss"] == pytest.approx(-probabilities[range(len(true)), true].log().mean().item(), rel=1e-4)


@pytest.mark.parametrize(("encoder", "pooling"), [("gpt", "last"), ("transformer", "mean"), ("rnn", "attention")])
def test_every_encoder_is_trained_and_read_again(encoder, pooling, data, tmp_path):
    sizes = SCRATCH if encoder != "rnn" else SCRATCH[:-2]
    options = ["--encoder", encoder, "--pooling", pooling, "--no-baselines", "--steps", "3"]
    results = start(data, tmp_path / "run", *sizes, *options)
    model = minitransformer.load(tmp_path / "run")
    assert isinstance(model, SequenceClassifier)
    assert model.config.pooling == pooling
    assert model.num_parameters() == results["parameters"]


def test_a_finetuned_head_is_kept_for_the_same_labels_and_replaced_for_others(run, data, tmp_path, capsys):
    start(data, tmp_path / "again", "--init", str(run), "--steps", "2", "--lr", "1e-9", "--no-baselines")
    assert f"{run}withitshead" in said(capsys)
    again, texts = Classifier.load(tmp_path / "again"), ["a good plot", "dull"]
    torch.testing.assert_close(again.probabilities(texts), Classifier.load(run).probabilities(texts), atol=1e-4, rtol=0)

    three = write(tmp_path / "three.tsv", [(t, y if i % 3 else "neutral") for i, (t, y) in enumerate(sentences(60))])
    results = start(three, tmp_path / "three", "--init", str(run), "--steps", "2", "--no-baselines")
    assert "is dropped (its labels are negative, positive): a new one for 3 labels".replace(" ", "") in said(capsys)
    assert results["labels"] == ["negative", "neutral", "positive"]


def test_a_run_goes_on_from_a_classifier_of_hugging_face_and_is_exported_again(run, data, tmp_path, capsys):
    tokenizer = Classifier.load(run).tokenizer
    sizes = dict(vocab_size=tokenizer.get_vocab_size(), d_model=16, num_heads=2, num_layers=1, max_length=32)
    encoder = BERT(BERTConfig(**sizes, cls_id=2, sep_id=3, mask_id=4))
    model = SequenceClassifier(encoder, 2, pooling="first", labels=("negative", "positive"))
    model.export(tmp_path / "theirs", tokenizer)
    start(
        data, tmp_path / "again", "--init", str(tmp_path / "theirs"), "--steps", "2", "--lr", "1e-9", "--no-baselines"
    )
    assert f"{tmp_path / 'theirs'}withitshead" in said(capsys)
    again = Classifier.load(tmp_path / "again")
    again.model.export(tmp_path / "exported", again.tokenizer)
    found = pipeline("text-classification", model=str(tmp_path / "exported"), top_k=None)(["a good plot"])[0]
    expected = dict(zip(again.labels, again.probabilities("a good plot").tolist(), strict=True))
    assert {each["label"]: each["score"] for each in found} == pytest.approx(expected, abs=1e-5)


SIZES = dict(vocab_size=9, d_model=8, num_heads=2, num_layers=1, max_length=8)
ONE_LAYER = ("num_encoder_layers", "num_decoder_layers", "d_ff")
ENCODERS = {
    "bert": lambda: BERT(BERTConfig(**SIZES, cls_id=2, sep_id=3, mask_id=4)),
    "gpt": lambda: GPT(GPTConfig(**SIZES, eos_id=0, tie_output=False)),
    "transformer": lambda: Transformer(
        TransformerConfig(9, 9, 8, 2, d_ff=8, num_encoder_layers=1, num_decoder_layers=1)
    ),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", [None, "mean", "first"])
def test_another_dropout_keeps_the_weights_of_a_classifier(encoder, pooling):
    """`pooling` is that of the classifier that the encoder is taken from."""
    encoder = ENCODERS[encoder]()
    if pooling is not None:
        encoder = SequenceClassifier(encoder, 2, pooling=pooling).encoder
    changed = with_dropout(encoder, 0.25)
    assert changed.config.dropout == 0.25
    before, after = (SequenceClassifier(each, 2).encoder.state_dict() for each in (encoder, changed))
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_run_prints_labels_and_paths_as_they_are_and_what_it_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rows = [(text, {"positive": "[/b]", "negative": ":car:"}[label]) for text, label in sentences(60)]
    data = write(tmp_path / "[red]films[i].tsv", rows)
    results = start(data, tmp_path / "[/run]", *SCRATCH, "--vocab-size", "5000", "--steps", "1", "--no-samples")
    out, err = capsys.readouterr()
    printed = "".join(out.split())
    assert "labels:car:,[/b];" in printed
    assert f"andtokenizerarein{tmp_path}/[/run]" in printed
    assert "[red]films[i].tsv" in printed
    assert printed.count("[/b]") == printed.count(":car:") == 3  # the line above, a row and a column
    assert results["baselines"] == {}
    assert "no baselines: they need scikit-learn, pip install 'minitransformer[baselines]'" in err
    size = load_tokenizer(tmp_path / "[/run]" / "tokenizer.json").get_vocab_size()
    assert f"warning: the text gives only {size:,} pieces, fewer than the 5,000 asked for" in err.splitlines()


def test_a_gpt_pretrained_here_becomes_a_classifier_and_frozen_layers_stay(data, tmp_path, capsys):
    text, gpt = tmp_path / "text.txt", tmp_path / "gpt"
    text.write_text("\n".join(row for row, _ in sentences(150, seed=1)))
    sizes = ["--num-layers", "2", "--d-model", "16", "--num-heads", "2", "--context", "64", "--batch-size", "4"]
    pretrain(["gpt", "--data", str(text), *sizes, "--steps", "3", "--out", str(gpt), "--device", "cpu"])
    options = ["--init", str(gpt), "--steps", "3", "--lr", "0.01", "--no-baselines"]
    start(data, tmp_path / "frozen", *options, "--freeze", "1", "--layer-decay", "0.5")
    assert "has no classification head: a new one for 2 labels".replace(" ", "") in said(capsys)
    before, after = minitransformer.load(gpt), minitransformer.load(tmp_path / "frozen").encoder
    kept = dict(before.named_parameters())
    changed = {name for name, parameter in after.named_parameters() if not torch.equal(parameter, kept[name])}
    assert changed
    assert all(name.startswith(("decoder.layers.1", "decoder.final_norm")) for name in changed)


def test_accumulated_batches_make_larger_steps_and_epochs_as_long(data, tmp_path):
    runs = {}
    for accumulate in (1, 3):
        run = tmp_path / str(accumulate)
        flags = [*SCRATCH, "--epochs", "2", "--max-tokens", "120", "--no-baselines", "--warmup", "1", "--patience", "9"]
        steps = start(data, run, *flags, "--accumulate", str(accumulate))["steps"]
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        runs[accumulate] = steps, [line for line in lines if "lr" in line]
    (many, small), (few, large) = runs[1], runs[3]
    assert few == math.ceil(many / 3)
    assert large[0]["tokens"] == small[2]["tokens"]  # the texts of one step, and of three
    assert large[-1]["tokens"] >= small[-1]["tokens"]
    peaks = [max(lines, key=lambda line: line["lr"])["step"] for lines in (small, large)]
    assert peaks[1] == pytest.approx(peaks[0] / 3, abs=1)


def test_one_held_out_text_of_one_label_is_scored(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in (("train", sentences(40)), ("val", sentences(1)), ("test", sentences(1, seed=1))):
        write(folder / f"{split}.tsv", rows)
    results = start(folder, tmp_path / "run", *SCRATCH, "--steps", "1")
    assert all(row["accuracy"] in (0.0, 1.0) for row in (results, *results["baselines"].values()))
    assert results["interval"][0] < results["interval"][1]


def test_texts_longer_than_the_model_are_cut_with_one_warning(run, tmp_path, capsys):
    rows = [(f"{text} {'film ' * (200 * (i < 4))}", label) for i, (text, label) in enumerate(sentences(50))]
    long = write(tmp_path / "long.tsv", rows)
    start(long, tmp_path / "cut", "--init", str(run), "--steps", "1", "--no-baselines")
    assert capsys.readouterr().err.splitlines() == [
        "warning: 4 of 50 texts are longer than the 128 tokens that the model reads, and are cut there"
    ]


def test_from_scratch_marks_are_kept_and_unknown_words_are_counted(tmp_path, capsys):
    for split, end in (("train", ""), ("validation", " ش")):
        rows = [(f"{word} {n}{end}", label) for n in range(20) for word, label in (("schön", "good"), ("Schon", "bad"))]
        write(tmp_path / f"{split}.tsv", rows)
    start(tmp_path, tmp_path / "run", *SCRATCH, "--steps", "1", "--no-baselines", "--cased")
    assert "warning: 40 of 200 tokens of validation are unknown" in capsys.readouterr().err
    tokenizer = load_tokenizer(tmp_path / "run" / "tokenizer.json")
    assert tokenizer.decode(tokenizer.encode("schön Schon").ids) == "schön Schon"
