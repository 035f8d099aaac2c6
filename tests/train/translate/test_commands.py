"""`python -m minitransformer translate` and `attend`, with the models of a run."""

import pytest
from helpers_scripts import refused

from minitransformer.__main__ import main as command
from minitransformer.pipelines.translator import Translator


def test_lines_are_translated_in_order_from_arguments_a_file_or_standard_input(run, tmp_path, capsys, monkeypatch):
    texts = ["friday october 20 1995", "3/9/16", "", "27 07 95"]
    command(["translate", str(run / "transformer"), *texts])
    from_arguments = capsys.readouterr().out
    assert len(from_arguments.splitlines()) == 4
    assert from_arguments.splitlines()[2] == ""
    file = tmp_path / "lines.txt"
    file.write_text("\r\n".join(texts) + "\r\n", encoding="utf-8-sig", newline="")
    command(["translate", str(run / "transformer"), "--input", str(file)])
    assert capsys.readouterr().out == from_arguments
    with file.open("rb") as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", type("Stdin", (), {"buffer": stream}))
        command(["translate", str(run / "transformer")])
    assert capsys.readouterr().out == from_arguments


@pytest.mark.parametrize("name", ["talk", "transformer"])
def test_n_best_lists_have_line_score_and_text_between_tabs(run, name, capsys):
    command(["translate", str(run / name), "3/9/16", "", "27 07 95", "--n-best", "2", "--beam", "3"])
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "2", "3", "3"]
    assert rows[2] == ["2", "", ""]
    assert float(rows[0][1]) >= float(rows[1][1])
    command(["translate", str(run / name), "3/9/16", "", "27 07 95", "--beam", "3"])
    assert capsys.readouterr().out.splitlines() == [rows[0][2], "", rows[3][2]]


@pytest.mark.parametrize("name", ["transformer", "rnn-location"])
def test_a_translation_in_bfloat16_is_that_of_the_weights_rounded_to_it(run, name, capsys):
    arguments = ["translate", str(run / name), "--precision", "bf16", "--n-best", "2", "may 3 1997", "27 07 95"]
    command(arguments)
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    translator = Translator.load(run / name)
    translator.model.bfloat16()
    expected = translator.n_best(["may 3 1997", "27 07 95"], n_best=2)
    assert [text for _, _, text in printed] == [each.text for row in expected for each in row]
    assert [score for _, score, _ in printed] == [f"{each.score:.4f}" for row in expected for each in row]


@pytest.mark.parametrize(
    ("name", "heads"), [("rnn-location", []), ("talk", []), ("transformer", []), ("transformer", ["--heads"])]
)
def test_attend_draws_a_map_for_every_model_with_attention(run, name, heads, tmp_path):
    command(["attend", str(run / name), "3 02 97", *heads, "--out", str(tmp_path / "map.png")])
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_used_is_refused_in_one_line(run, tmp_path, capsys):
    def translate(*arguments):
        return refused(capsys, ["translate", *map(str, arguments)], command)

    model = run / "transformer"
    assert "does not exist" in translate(tmp_path / "nowhere", "x")
    assert "has no config.json" in translate(tmp_path, "x")
    assert "holds several models: give one of them" in translate(run, "x")
    assert "one or the other" in translate(model, "x", "--input", tmp_path / "nowhere")
    assert "No such file" in translate(model, "--input", tmp_path / "nowhere")
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    assert "not UTF-8: byte 0xe9 in line 2" in translate(model, "--input", tmp_path / "latin.txt")
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_text((model / "config.json").read_text())
    assert "half-written" in translate(half, "x")
    assert "no attention" in refused(capsys, ["attend", str(run / "rnn-none"), "1990"], command)
    assert "line is empty" in refused(capsys, ["attend", str(model), " "], command)
