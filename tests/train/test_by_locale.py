import csv

from rich.console import Console

from train.translate.by_locale import report_by_locale


def test_the_file_has_every_locale_and_the_terminal_the_worst(tmp_path):
    def report(shares):
        return {"by_locale": {name: {"count": 8, "exact_match": share} for name, share in shares.items()}}

    many = {f"l{i:02}": 1.0 for i in range(30)}
    models = {"one": report({**many, "zz": 0.25, "ab": 0.5}), "other": report({**many, "zz": 0.5, "ab": 0.25})}
    console = Console(width=100, record=True, quiet=False, file=(tmp_path / "terminal").open("w"))
    report_by_locale(models, tmp_path, console)
    with (tmp_path / "by_locale.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["locale"] for row in rows] == sorted([*many, "zz", "ab"])
    assert rows[0] == {"locale": "ab", "pairs": "8", "one": "0.5000", "other": "0.2500"}
    text = console.export_text()
    assert "30 of 32 perfect" in text
    assert text.index("ab") < text.index("zz") < text.index("l00") < text.index("l17")
    assert "l18" not in text


def test_a_run_without_locales_has_no_such_file(tmp_path):
    report_by_locale({"one": {"exact_match": 1.0}}, tmp_path, Console(file=(tmp_path / "terminal").open("w")))
    assert not (tmp_path / "by_locale.csv").exists()
    assert (tmp_path / "terminal").read_text() == ""
