import io

import datasets
import pytest
import torch
from rich.console import Console

from minitransformer import plots
from minitransformer.models import RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig
from minitransformer.pipelines.translator import Translator
from minitransformer.tokenization import train_bpe_tokenizer
from train.translate import report_sentences
from train.translate.report import draw, show
from train.translate.report_sentences import MAP_TOKENS, chosen_sentences

SENTENCES = [" ".join(["Hund", "sieht", "Katze"][i % 3] for i in range(n)) for n in (1, 30, 4, 11, 11, 15, 9)]
SENTENCES += ["Katze " + SENTENCES[3].removeprefix("Hund ")]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe_tokenizer(SENTENCES, 200)


def report(bleu, groups=((5, 20.0), (3, 10.0))):
    return {
        "bleu": bleu,
        "bleu_lowercase": bleu + 1,
        "chrf": 50.26,
        "signatures": {"bleu": "nrefs:1|case:mixed", "chrf": "nrefs:1|nc:6"},
        "by_length": [
            {"words": name, "count": n, "bleu": x} for name, (n, x) in zip(["1-5", "21+"], groups, strict=True)
        ],
        "by_rarest_word": [{"seen": "never", "count": 8, "bleu": bleu / 2}],
        "parameters": 1_234_567,
        "seconds": 90.0,
        "tokens_per_second": 2345.6,
        "validation": [{"step": s, "seconds": 30.0 * s, "bleu": 9.0 * s, "loss": 4.0 - s} for s in (1, 3, 2)],
        "best_step": 3,
        "beam": 5,
        "alpha": 0.6,
    }


def shown(models):
    output = io.StringIO()
    show(models, Console(file=output, width=120, markup=False))
    return output.getvalue()


def row(text, name):
    line = next(line for line in text.splitlines() if line.startswith(f"│ {name} "))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_table_of_sentences_has_every_figure_and_says_how_it_was_scored():
    text = shown({"rnn-additive": report(21.25), "transformer": report(36.54)})
    assert row(text, "transformer") == ["transformer", "1,234,567", "36.5", "37.5", "50.3", "27.0", "1.5", "2,346"]
    assert "beam 5, length penalty 0.6" in text
    assert "bleu: nrefs:1|case:mixed" in text and "chrf: nrefs:1|nc:6" in text
    assert "exact match" not in text


def test_breakdowns_have_a_column_for_every_model():
    text = shown({"a": report(30.0), "b": report(40.0, groups=((5, 33.0), (3, 44.0)))})
    assert row(text, "1-5") == ["1-5", "5", "20.0", "33.0"]
    assert row(text, "21+") == ["21+", "3", "10.0", "44.0"]
    assert row(text, "never") == ["never", "8", "15.0", "20.0"]


def test_a_model_that_was_never_validated_has_its_row_and_no_breakdown_is_no_table():
    text = shown({"a": report(30.0) | {"validation": [], "by_length": [], "by_rarest_word": []}})
    assert row(text, "a")[5] == "none"
    assert text.count("┏") == 1


def test_the_validation_score_is_that_of_the_weights_that_were_saved():
    by_loss = report(30.0) | {"best_step": 2}
    mean = {"step": 3, "seconds": 90.0, "averaged": [2, 3], "bleu": 20.0, "loss": 0.5}
    averaged = by_loss | {"validation": [*by_loss["validation"], mean]}
    text = shown({"a": by_loss, "b": averaged})
    assert (row(text, "a")[5], row(text, "b")[5]) == ("18.0", "20.0")


def test_dates_keep_their_table():
    dates = {"exact_match": 0.5, "character_accuracy": 0.75, "seconds_to_99": None, "seconds": 1.0, "parameters": 7}
    text = shown({"a": dates | {"tokens_per_second": 10.0, "validation": []}})
    assert row(text, "a") == ["a", "7", "50.00%", "75.00%", "not reached", "1.0", "10"]
    assert "BLEU" not in text


def test_the_longest_sentences_that_fit_a_map_are_chosen_else_the_shortest(tokenizer):
    def tokens(text):
        return len(tokenizer.encode(text, add_special_tokens=False).ids) + 1

    chosen = chosen_sentences([*SENTENCES, *SENTENCES], tokenizer)
    assert chosen == [SENTENCES[3], SENTENCES[7], SENTENCES[6], SENTENCES[2]]
    assert [tokens(text) for text in chosen] == [MAP_TOKENS, MAP_TOKENS, 10, 5]
    long = [SENTENCES[1], SENTENCES[5]]
    assert chosen_sentences(long, tokenizer, most=1) == [SENTENCES[5]]


def test_curves_are_bleu_against_minutes_and_maps_have_subwords_as_labels(tokenizer, tmp_path, monkeypatch):
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    transformer = TransformerConfig(
        source_vocab_size=size,
        target_vocab_size=size,
        d_model=8,
        num_heads=2,
        d_ff=8,
        max_length=40,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    rnn = RNNConfig(source_vocab_size=size, target_vocab_size=size, attention="none", max_length=40)
    for name, model in (("transformer", Transformer(transformer)), ("rnn-none", RNNSeq2Seq(rnn))):
        Translator(model, tokenizer, tokenizer).save(tmp_path / name)
    curves, figures = [], {}
    monkeypatch.setattr(report_sentences, "learning_curves", lambda *args, **options: curves.append((args, options)))
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.update({path.name: figure}) or path)
    split = datasets.Dataset.from_dict({"source": SENTENCES, "target": SENTENCES})
    draw({"transformer": report(36.0), "rnn-none": report(20.0)}, split, tmp_path)
    (points, path), options = curves[0]
    assert points["transformer"] == [(0.0, 0.0), (0.5, 9.0), (1.5, 27.0), (1.0, 18.0)]
    assert path.name == "learning_curves.png"
    assert not options["percent"] and "minutes" in options["xlabel"] and "BLEU" in options["ylabel"]
    assert set(figures) == {"attention.png", "heads-transformer.png"}
    labels = [label.get_text() for label in figures["attention.png"].axes[0].get_xticklabels()]
    assert labels == ["Hund", *(["␣sieht", "␣Katze", "␣Hund"] * 4)[:10], "[EOS]"]
    # However a translation differs from its reference, no map of a sentence is in red.
    colours = {label.get_color() for axes in figures["attention.png"].axes[:4] for label in axes.get_yticklabels()}
    assert plots.WRONG["color"] not in colours
