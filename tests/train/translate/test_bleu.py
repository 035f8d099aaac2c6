import io
import subprocess
import sys

import datasets
import pytest
import sacrebleu
from rich.console import Console

from minitransformer import Transformer, TransformerConfig, Translator, plots
from minitransformer.tokenization import train_bpe_tokenizer
from train.translate.bleu import Bleu, bleu, chosen_sentences, length_groups, rarity_groups, translation_scores

REFERENCES = ["A man sleeping in a green room on a couch.", "Two dogs run; one jumps.", "The boy wears headphones."]
OUTPUTS = ["A man sleeps in a green room on a Couch.", "Two dogs run.", ""]


@pytest.mark.parametrize("tokenize", ["13a", "char"])
def test_scores_and_signatures_are_what_the_command_of_sacrebleu_prints(tokenize, tmp_path):
    scores = translation_scores(OUTPUTS, REFERENCES, tokenize)
    assert scores["bleu"] == bleu(OUTPUTS, REFERENCES, tokenize)
    for name, lines in (("out", OUTPUTS), ("ref", REFERENCES)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokens = ["-tok", tokenize]
    for name, flags in (("bleu", tokens), ("bleu_lowercase", [*tokens, "-lc"]), ("chrf", ["-m", "chrf"])):
        command = [sys.executable, "-m", "sacrebleu", str(tmp_path / "ref"), "-i", str(tmp_path / "out"), "-f", "text"]
        printed = subprocess.run([*command, *flags, "-w", "6"], capture_output=True, text=True, check=True).stdout
        metric, signature = printed.split(" = ")[0].split("|", 1)
        assert metric in ("BLEU", "chrF2")
        assert f"{scores[name]:.6f}" in printed
        assert scores["signatures"][name] == signature


def test_every_sentence_is_in_the_group_of_its_length():
    lengths = [21, 5, 1, 6, 10, 20, 16, 5, 40]  # none of 11 to 15
    sources = [" ".join(["Wort"] * length) + "." for length in lengths]
    references = [f"sentence number {i} has quite a few words" for i in range(len(lengths))]
    outputs = [references[i] if i % 2 else "something else that differs in everything" for i in range(len(lengths))]
    pairs = datasets.Dataset.from_dict({"source": sources, "target": references})
    groups = Bleu().report(pairs, outputs, sources, [])["by_length"]
    rows = {"1-5": [1, 2, 7], "6-10": [3, 4], "16-20": [5, 6], "21+": [0, 8]}
    assert {name: group["count"] for name, group in groups.items()} == {name: len(kept) for name, kept in rows.items()}
    for name, kept in rows.items():
        expected = sacrebleu.corpus_bleu([outputs[i] for i in kept], [[references[i] for i in kept]]).score
        assert groups[name]["bleu"] == expected
    assert length_groups(["我们今天走吧。"]) == ["6-10"]


def test_the_rarest_word_of_the_source_decides_the_group():
    seen = {"eins": 1, "zwei": 2, "drei": 3, "zehn": 10, "elf": 11, "hundert": 100, "mehr": 101}
    training = [word for word, times in seen.items() for _ in range(times)]
    sources = ["Mehr, nie.", "mehr Eins", "zwei", "„drei“ Mehr", "zehn", "elf!", "hundert mehr", "mehr"]
    groups = ["never", "1-2", "1-2", "3-10", "3-10", "11-100", "11-100", "101+"]
    assert rarity_groups(sources, training) == groups


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
        "by_length": {name: {"count": n, "bleu": x} for name, (n, x) in zip(["21+", "1-5"], groups, strict=True)},
        "by_rarest_word": {"never": {"count": 8, "bleu": bleu / 2}},
        "parameters": 1_234_567,
        "seconds": 90.0,
        "tokens_per_second": 2345.6,
        "validation": [{"step": s, "seconds": 30.0 * s, "bleu": 9.0 * s, "loss": 4.0 - s} for s in (1, 3, 2)],
        "best_step": 3,
        "scored_on": "test",
        "beam": 5,
        "alpha": 0.6,
    }


def shown(models):
    console = Console(file=io.StringIO(), width=120, markup=False)
    for table in Bleu().tables(models):
        console.print(table)
    return console.file.getvalue()


def row(text, name):
    line = next(line for line in text.splitlines() if line.startswith(f"│ {name} "))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_tables_have_every_figure_of_every_model_and_say_how_it_was_scored():
    text = shown({"rnn-additive": report(21.25), "transformer": report(36.54)})
    assert row(text, "transformer") == ["transformer", "1,234,567", "36.5", "37.5", "50.3", "27.0", "1.5", "2,346"]
    assert "beam 5, length penalty 0.6" in text
    assert "bleu: nrefs:1|case:mixed" in text and "chrf: nrefs:1|nc:6" in text
    text = shown({"a": report(30.0), "b": report(40.0, groups=((5, 33.0), (3, 44.0)))})
    assert row(text, "21+") == ["21+", "5", "20.0", "33.0"]
    assert row(text, "1-5") == ["1-5", "3", "10.0", "44.0"]
    assert text.index(" 1-5 ") < text.index(" 21+ ")
    assert row(text, "never") == ["never", "8", "15.0", "20.0"]


def test_the_validation_score_is_that_of_the_weights_that_were_saved():
    by_loss = report(30.0) | {"best_step": 2}
    mean = {"step": 3, "seconds": 90.0, "averaged": [2, 3], "bleu": 20.0, "loss": 0.5}
    averaged = by_loss | {"validation": [*by_loss["validation"], mean]}
    text = shown({"a": by_loss, "b": averaged, "c": report(30.0) | {"validation": []}})
    assert [row(text, name)[5] for name in "abc"] == ["18.0", "20.0", "none"]


def test_typical_sentences_are_drawn_and_none_longer_than_a_map_shows_while_there_are_shorter_ones(tokenizer):
    def lengths(sentences):
        return [len(tokenizer.encode(text, add_special_tokens=False).ids) + 1 for text in sentences]

    assert lengths(SENTENCES) == [2, 31, 5, 12, 12, 16, 10, 12]
    assert lengths(chosen_sentences([*SENTENCES, *SENTENCES], tokenizer)) == [12, 12, 10, 16]
    long = [" ".join(["Hund"] * count) for count in (30, 40, 50, 2)]
    assert lengths(chosen_sentences(long, tokenizer, most=2)) == [3, 31]


def test_curves_and_maps_are_drawn_of_sentences_that_are_not_marked_as_wrong(tokenizer, tmp_path, monkeypatch):
    sizes = dict(d_model=8, num_heads=2, d_ff=8, num_encoder_layers=1, num_decoder_layers=1, max_length=40)
    model = Transformer(TransformerConfig(*[tokenizer.get_vocab_size()] * 2, **sizes))
    Translator(model, tokenizer, tokenizer).save(tmp_path / "transformer")
    figures = {}
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.update({path.name: figure}) or path)
    split = datasets.Dataset.from_dict({"source": SENTENCES[2:3], "target": SENTENCES[2:3]})
    Bleu().draw({"transformer": report(36.0)}, split, tmp_path)
    assert set(figures) == {"learning_curves.png", "attention.png", "heads-transformer.png"}
    colours = {label.get_color() for axes in figures["attention.png"].axes for label in axes.get_yticklabels()}
    assert plots.WRONG["color"] not in colours
