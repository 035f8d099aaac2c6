import io

import datasets
import pytest
from rich.console import Console

from train.translate.exact_match import (
    ExactMatch,
    character_accuracy,
    chosen_examples,
)


def printed(*tables):
    console = Console(file=io.StringIO(), width=120)
    for table in tables:
        console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize(("output", "reference", "accuracy"), [
    ("abc", "abc", 1), ("abx", "abc", 2 / 3), ("ab", "abcd", 0.5), ("abcd", "ab", 0.5)
])  # fmt: skip
def test_character_accuracy_counts_missing_and_surplus_characters_as_wrong(output, reference, accuracy):
    assert character_accuracy([output], [reference]) == accuracy


@pytest.mark.parametrize(
    ("measure", "key", "groups"),
    [
        (ExactMatch(), "by_format", {"dd.MM.yy": (2, 0.5), "M/d/yy": (1, 1.0)}),
        (ExactMatch(by_locale=True), "by_locale", {"de": (2, 1.0), "en": (1, 0.0)}),
    ],
)
def test_a_report_has_scores_groups_and_the_time_to_99_percent(measure, key, groups):
    columns = {"source": ["01.02.03", "3/9/16", "04.05.06"], "target": ["a", "b", "c"]}
    pairs = datasets.Dataset.from_dict({**columns, "format": ["de short", "de full", "M/d/yy"]})
    history = [{"seconds": s, "exact_match": e} for s, e in ((1.0, 0.5), (2.0, 0.99), (3.0, 1.0))]
    report = measure.report(pairs, ["a", "b", "d"], [], history)
    scores = {"exact_match": 2 / 3, "character_accuracy": 2 / 3, "seconds_to_99": 2.0}
    shares = {name: {"count": count, "exact_match": share} for name, (count, share) in groups.items()}
    assert report == {**scores, key: shares}
    assert measure.report(pairs, ["a", "b", "d"], [], history[:1])["seconds_to_99"] is None


def test_the_table_has_a_row_for_each_model_and_the_formats_a_column():
    report = {"exact_match": 0.5, "character_accuracy": 0.75, "seconds_to_99": None, "seconds": 1.0, "parameters": 7}
    report |= {
        "tokens_per_second": 10.0,
        "scored_on": "test",
        "by_format": {"d.M.y": {"count": 3, "exact_match": 1 / 3}},
    }
    text = printed(*ExactMatch().tables({"a": report, "b": report | {"seconds_to_99": 4.0}}))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line[0] == "│"]
    assert rows == [
        ["a", "7", "50.00%", "75.00%", "not reached", "1.0", "10"],
        ["b", "7", "50.00%", "75.00%", "4.0", "1.0", "10"],
        ["d.M.y", "3", "33.3%", "33.3%"],
    ]
    assert "on the test pairs" in text


def test_the_first_pairs_of_the_commonest_formats_are_drawn_and_other_strings_of_typical_length():
    sources = ["3/9/16", "01.02.03", "04.05.06", "4/9/16", "07.08.09", "1 may 2003"]
    pairs = datasets.Dataset.from_dict({"source": sources, "target": list("abcdef")})
    assert chosen_examples(pairs, most=2) == [("01.02.03", "b"), ("3/9/16", "a")]
    pairs = datasets.Dataset.from_dict({"source": ["x", "x" * 90, "yyyy", "zzz", "zzzz"], "target": list("abcde")})
    assert chosen_examples(pairs, most=2) == [("yyyy", "c"), ("zzzz", "e")]
