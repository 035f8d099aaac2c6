"""What a model writes during training: kept, shown, and without an effect on the run."""

import io
import json
import random

import pytest
import torch
from helpers_pipelines import pipeline
from helpers_runs import SMALL
from helpers_training import lines, run
from rich.console import Console

from minitransformer import Classifier
from minitransformer.tokenization import train_wordpiece_tokenizer
from train.engine.sample_texts import guessed_labels, translations, with_gap
from train.engine.samples import Samples, sample_lines
from train.pretrain.__main__ import main


def drawing(model):
    """Samples that draw from every generator."""
    assert not model.training
    return [{"sample": f"{torch.rand(()).item()} {random.random()}\n[MASK]"}]


def test_samples_are_kept_and_shown_at_each_evaluation_and_change_no_bit_of_the_run(tmp_path):
    console = Console(file=io.StringIO(), width=300)
    plain, _ = run(tmp_path / "plain")
    watched, _ = run(tmp_path / "watched", samples=drawing, console=console)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert lines(tmp_path / "plain") == lines(tmp_path / "watched")
    kept = [json.loads(line) for line in (tmp_path / "watched/samples.jsonl").read_text().splitlines()]
    assert [line["step"] for line in kept] == [3, 6, 9, 12] and all(line["samples"] for line in kept)
    assert not (tmp_path / "plain/samples.jsonl").exists()
    shown = console.file.getvalue().splitlines()
    assert len([line for line in shown if line.startswith("    sample: 0.")]) == 4


def test_every_evaluation_says_which_one_is_the_best_so_far(tmp_path):
    losses = iter([3.0, 1.5, 2.0, 1.0])
    console = Console(file=io.StringIO(), width=300)
    run(tmp_path, evaluate=lambda model: {"loss": next(losses)}, console=console)
    shown = [line.partition(" s: ")[2] for line in console.file.getvalue().splitlines() if "loss" in line]
    assert shown == [
        "loss 3.0000  best so far",
        "loss 1.5000  best so far",
        "loss 2.0000  best so far: loss 1.5000 at step 6",
        "loss 1.0000  best so far",
    ]


def test_a_resumed_run_drops_the_samples_of_steps_that_it_repeats(tmp_path):
    whole = [json.dumps({"step": step, "samples": []}) + "\n" for step in (3, 6, 9)]
    (tmp_path / "samples.jsonl").write_text("".join([*whole, "[]\n", '{"step": 12, "sam']))
    Samples(drawing, tmp_path).resume(6)
    assert (tmp_path / "samples.jsonl").read_text() == "".join(whole[:2])


def test_texts_are_one_line_each_on_the_terminal():
    [line] = sample_lines([{"sample": "To be\n\x1b[31m or\tnot" + " to be" * 100}])
    assert line.startswith("    sample: To be ?[31m or not to be") and line.endswith("…") and len(line) < 220


@pytest.mark.parametrize("sentence", ["the green bottles hang on the wall", "绿色的瓶子挂在墙上"])
def test_a_gap_is_one_token_of_a_sentence_in_any_script(sentence):
    tokenizer = train_wordpiece_tokenizer([sentence], 60)
    gap = with_gap(tokenizer, sentence, 30)
    assert gap["text"].replace("[MASK]", gap["answer"]) == sentence and gap["answer"]
    assert with_gap(tokenizer, sentence, 4) is None and with_gap(tokenizer, "the", 30) is None


def test_translated_texts_come_from_all_over_the_split():
    texts = [f"{row}" for row in range(9)]
    made = translations(lambda model: lambda chosen: [text * 2 for text in chosen], texts, texts)(None)
    assert [sample["source"] for sample in made] == ["1", "4", "7"]
    assert made[0] == {"source": "1", "translation": "11", "reference": "1"}


def test_labelled_texts_are_the_shortest_of_some_words():
    classifier = pipeline(Classifier)
    texts = {
        "the lazy dog the lazy dog the dog": "no",
        "dog the dog the dog": "no",
        "lazy": "yes",
        "the the the dog": "yes",
    }
    made = guessed_labels(classifier.tokenizer, texts, texts.values())(classifier.model)
    assert [(sample["text"], sample["label"]) for sample in made] == [
        ("the the the dog", "yes"),
        ("dog the dog the dog", "no"),
    ]
    label, probability = classifier("the the the dog")
    assert made[0]["guess"] == f"{label} ({probability:.0%})"


def test_no_samples_is_a_flag_that_a_resume_may_change(tmp_path):
    (tmp_path / "text.txt").write_text("ten green bottles hanging on the wall. " * 30)
    flags = ["gpt", "--data", str(tmp_path / "text.txt"), *SMALL, "--context", "8", "--steps", "2", "--device", "cpu"]
    main([*flags, "--no-samples", "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run/samples.jsonl").exists()
    with pytest.raises(SystemExit) as exit_:
        main(["gpt", "--resume", str(tmp_path / "run"), "--samples"])
    assert exit_.value.code == 0
