import json

import pytest
import torch
from helpers_scripts import results_of, samples_of
from transformers import AutoModelForMaskedLM, AutoTokenizer

import minitransformer
from minitransformer.data.packing import single_rows
from minitransformer.data.sentences import encode_documents
from minitransformer.models import BERT, BERTConfig
from minitransformer.tokenization import load_tokenizer, masked_specials
from train.pretrain.__main__ import main
from train.pretrain.bert.corpora import read_corpora

pytestmark = pytest.mark.usefixtures("as_users_run_it")
SIZES = ["--num-layers", "1", "--d-model", "16", "--num-heads", "2"]
BATCHES = ["--context", "24", "--batch-tokens", "200", "--threads", "1"]
COLOURS = ("green", "red", "blue", "white")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Long enough for several documents of sentences."""
    path = tmp_path_factory.mktemp("data") / "text.txt"
    lines = (f"{n} {COLOURS[n % 4]} bottles are hanging on the {COLOURS[n % 3]} wall. " for n in range(300))
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Short texts in train, validation and test files."""
    folder = tmp_path_factory.mktemp("table")
    for number, split in enumerate(("train", "validation", "test")):
        lines = [f'{{"text": "a {COLOURS[n % 4]} film of {split} and {n}"}}\n' for n in range(number, 60)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(text, table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = [*SIZES, *BATCHES, "--vocab-size", "90", "--steps", "6"]
    main(["bert", "--data", f"{text},{table}", *options, "--out", str(folder)])
    return folder


def test_the_run_folder_holds_the_figures_the_model_and_its_tokenizer(run):
    results = results_of(run)
    model, tokenizer = minitransformer.load(run), load_tokenizer(run / "tokenizer.json")
    assert results["parameters"] == model.num_parameters()
    assert results["vocab_size"] == tokenizer.get_vocab_size() == model.config.vocab_size == 90
    assert model.config.mask_id == tokenizer.token_to_id("[MASK]")
    assert results["steps"] == 6
    for prefix in ("", "test_"):
        assert set(results[f"{prefix}baselines"]) == {"unigram", "neighbours"}
        assert 0 <= results[f"{prefix}accuracy"] <= 1
    assert len(results["by_data"]) == 2
    assert len(results["test_by_data"]) == 1  # a text file has no test part
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert 0 <= results["sentence_accuracy"] <= 1
    assert len(samples := samples_of(run)) == 2 * 6  # two gaps at each evaluation
    assert all("[MASK]" in sample["text"] and sample["answer"] and "%" in sample["filled"] for sample in samples)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["straße", "für", "é"]),
        (["--cased"], ["Straße", "für", "é"]),
        (["--strip-accents"], ["straße", "fur", "e"]),
        (["--cased", "--strip-accents"], ["Straße", "fur", "e"]),
    ],
)
def test_flags_choose_case_and_accents_and_unknown_words_are_counted(flags, words, tmp_path, capsys):
    for split, end in (("train", ""), ("validation", " ش")):
        lines = [f'{{"text": "Straße {n} für é{end}"}}\n' for n in range(20)]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    main(["bert", "--data", str(tmp_path), *SIZES, *BATCHES, "--steps", "1", *flags, "--out", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert "warning: 20 of 140 tokens of validation" in err
    assert "fewer than the 8,000 asked for" in err
    tokenizer = load_tokenizer(tmp_path / "run" / "tokenizer.json")
    assert tokenizer.decode(tokenizer.encode("Straße für é").ids) == " ".join(words)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_nothing_that_is_held_out_is_trained_on(split, run, table):
    tokenizer = load_tokenizer(run / "tokenizer.json")
    specials = masked_specials(tokenizer)
    corpus = read_corpora(str(table))[str(table)]
    train, other = (
        {
            tuple(ids)
            for part in corpus.parts(name)
            for ids, *_ in single_rows(encode_documents(part, tokenizer, longest=40), 40, specials)
        }
        for name in ("train", split)
    )
    assert not train & other
    assert split not in tokenizer.get_vocab()


OBJECTIVES = {"bert": ("nsp", None, None), "roberta": (None, None, None), "albert": ("sop", 128, 1)}
"""The sentence head of each, the width of its token vectors, and its sets of parameters."""


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_starts_from_another_and_classic_ones_load_in_transformers(objective, text, tmp_path):
    first, second, exported = (tmp_path / name for name in ("first", "second", "exported"))
    common = ["bert", "--objective", objective, "--data", str(text), "--steps", "6", *BATCHES]
    classic = ["--vocab-size", "280", "--architecture", "classic", "--optimizer", "adamw"]
    main([*common, *SIZES, *classic, "--out", str(first)])
    main([*common, "--init", str(first), "--out", str(second)])
    assert results_of(second)["validation_loss"] < results_of(first)["validation_loss"]
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    model, tokenizer = BERT.load(second), load_tokenizer(second / "tokenizer.json")
    config = model.config
    assert (config.sentence_head, config.d_embedding, config.num_hidden_groups) == OBJECTIVES[objective]
    model.export(exported, tokenizer)
    theirs, their_tokenizer = (kind.from_pretrained(exported) for kind in (AutoModelForMaskedLM, AutoTokenizer))
    ids = torch.tensor([tokenizer.encode("the green bottles, hanging").ids])
    assert their_tokenizer("the green bottles, hanging").input_ids == ids[0].tolist()
    torch.testing.assert_close(theirs.eval()(ids).logits, model.predict_tokens(model(ids)), rtol=0, atol=1e-5)


def test_heads_that_a_checkpoint_lacks_start_untrained_with_a_warning(text, run, tmp_path, capsys):
    ids = dict(cls_id=2, sep_id=3, mask_id=4)
    heads = dict(sentence_head=None, pooler=False, masked_head=False)
    config = BERTConfig(vocab_size=90, max_length=24, d_model=16, num_heads=2, num_layers=1, **ids, **heads)
    folder = BERT(config).save(tmp_path / "headless")
    load_tokenizer(run / "tokenizer.json").save(str(folder / "tokenizer.json"))
    main(["bert", "--data", str(text), "--init", str(folder), "--steps", "2", "--out", str(tmp_path / "run")])
    warning = "--init has no masked head, pooler, sentence head for this objective: new ones start untrained"
    assert f"warning: {warning}" in capsys.readouterr().err.splitlines()
    assert BERT.load(tmp_path / "run").config.sentence_head == "nsp"
