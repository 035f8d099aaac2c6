import subprocess
import sys

import datasets
import huggingface_hub
import pytest

from minitransformer.data import load
from minitransformer.data.splits import grouped_split, last_tenth_split
from minitransformer.errors import InputError


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, minitransformer.data; print(*{'datasets', 'babel', 'pyarrow', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def pairs(count, targets):
    return {"source": [f"s{i}" for i in range(count)], "target": [f"t{i % targets}" for i in range(count)]}


def test_grouped_split_shares_no_target_and_keeps_every_row():
    parts = grouped_split(pairs(300, 53), by="target", seed=0)
    assert list(parts) == ["train", "validation", "test"]
    groups = [set(part["target"]) for part in parts.values()]
    assert [len(group) for group in groups] == [43, 5, 5]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert sorted(source for part in parts.values() for source in part["source"]) == sorted(pairs(300, 53)["source"])


def test_grouped_split_is_decided_by_the_seed_and_not_by_the_order_of_rows():
    table = pairs(100, 50)
    backward = {name: values[::-1] for name, values in table.items()}
    assert grouped_split(table, by="target", seed=0) == grouped_split(table, by="target", seed=0)
    assert grouped_split(table, by="target", seed=0) != grouped_split(table, by="target", seed=1)
    assert (
        grouped_split(backward, by="target", seed=0)["test"]["source"]
        == (grouped_split(table, by="target", seed=0)["test"]["source"][::-1])
    )


def test_grouped_split_drops_repeated_rows():
    table = {"source": ["a", "a", *"bcdefghij"], "target": ["A", "A", *"BCDEFGHIJ"]}
    parts = grouped_split(table, by="target")
    assert sorted(source for part in parts.values() for source in part["source"]) == list("abcdefghij")


def test_too_little_to_split_is_an_input_error():
    with pytest.raises(InputError, match="9 distinct values of 'target'"):
        grouped_split(pairs(100, 9), by="target")
    with pytest.raises(InputError, match="9 characters are too few"):
        last_tenth_split("a" * 9)


def test_dates_are_split_by_iso_date():
    corpus = load("dates", count=300)
    assert corpus["train"].column_names == ["source", "target", "format"]
    train, validation, test = (set(corpus[split]["target"]) for split in ("train", "validation", "test"))
    assert not (train & test or train & validation or validation & test)
    assert sum(corpus.num_rows.values()) == 300
    assert load("dates", count=300)["test"][:] == corpus["test"][:]


def test_dates_come_in_other_locales():
    corpus = load("dates", count=50, locales=["fr"])
    assert all(name.startswith("fr ") for name in corpus["train"]["format"])


def test_recall_is_split_by_source():
    corpus = load("recall", count=200)
    assert corpus.num_rows == {"train": 160, "validation": 20, "test": 20}
    assert len({source for split in corpus.values() for source in split["source"]}) == 200


def test_an_unknown_name_is_answered_with_the_names_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"'date'.*dates, recall, shakespeare, reviews, bible and hub:NAME"):
        load("date")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dates", {"source": "a", "target": "b"}),
        ("recall", {"locales": ["de"]}),
        ("some.csv", {"count": 3}),
        ("dates", {"count": 0}),
    ],
)
def test_options_of_another_corpus_are_input_errors(name, options):
    with pytest.raises(InputError):
        load(name, **options)


@pytest.fixture
def hub(monkeypatch):
    """Puts `answer`, an exception or a data set, in the place of the hub."""

    def put(answer):
        def load_dataset(*_):
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    return put


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no\nroute"),
        OSError("no\nroute"),
        ValueError("no\nroute"),
        datasets.exceptions.DatasetNotFoundError("no\nroute"),
    ],
)
def test_a_hub_that_fails_is_one_line_with_a_way_out(hub, error):
    hub(error)
    with pytest.raises(InputError, match=r"cannot load some/thing .*\(no route\).* path of a folder") as raised:
        load("hub:some/thing")
    assert "\n" not in str(raised.value)


def test_an_unreachable_hub_is_asked_only_once(monkeypatch):
    asked = []

    def dataset_info(self, name, timeout):
        asked.append(name)
        raise RuntimeError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: pytest.fail("asked again"))
    with pytest.raises(InputError, match="Name or service not known"):
        load("hub:some/thing:with-configuration")
    assert asked == ["some/thing"]


def test_offline_mode_leaves_the_hub_alone_and_reads_the_cache(hub, monkeypatch):
    table = datasets.Dataset.from_dict({"text": ["a"] * 20})
    hub(datasets.DatasetDict({"train": table, "validation": table}))

    def dataset_info(*_, **__):
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    assert load("hub:some/thing").num_rows == {"train": 20, "validation": 20}


def test_hub_columns_get_our_names_and_a_validation_split(hub):
    table = datasets.Dataset.from_dict({"id": list(range(20)), "text": list("abcdefghij" * 2), "label": [0, 1] * 10})
    hub(datasets.DatasetDict({"train": table, "test": table, "unsupervised": table}))
    corpus = load("hub:some/reviews")
    assert corpus.num_rows == {"train": 18, "validation": 2, "test": 20}
    assert set(corpus["train"].column_names) == {"text", "label"}


def test_hub_translations_are_chosen_by_language(hub):
    table = datasets.Dataset.from_list([{"translation": {"de": "ja", "en": "yes", "fr": "oui"}}])
    hub(datasets.DatasetDict({"train": table, "validation": table}))
    assert load("hub:some/languages", source="en", target="de")["train"][0] == {"source": "yes", "target": "ja"}


def test_hub_pairs_with_an_empty_side_are_dropped_and_counted(hub):
    whole = {"de": "ja", "en": "yes"}
    rows = [whole, {"de": None, "en": "no"}, {"de": "nein", "en": " "}, whole]
    without_references = datasets.Dataset.from_list([{"de": "ja", "en": ""}] * 3)
    hub(
        datasets.DatasetDict(
            {"train": datasets.Dataset.from_list(rows), "validation": datasets.Dataset.from_list([whole])}
        )
    )
    with pytest.warns(UserWarning, match="hub:a/b: dropped 2 of 4 rows of train, where source or target is empty"):
        corpus = load("hub:a/b", source="de", target="en")
    assert corpus["train"][:] == {"source": ["ja"] * 2, "target": ["yes"] * 2}
    pairs = datasets.Dataset.from_list([whole])
    hub(datasets.DatasetDict({"train": pairs, "validation": pairs, "test": without_references}))
    with pytest.warns(UserWarning, match="dropped 3 of 3 rows of test"):
        assert load("hub:a/b", source="de", target="en").num_rows == {"train": 1, "validation": 1}
    hub(datasets.DatasetDict({"train": without_references, "validation": pairs}))
    with pytest.raises(InputError, match="in each of the 3 rows of train, source or target is empty"):
        load("hub:a/b", source="de", target="en")
    pairs = pairs.add_column("n", [7])
    hub(datasets.DatasetDict({"train": pairs, "validation": pairs}))
    with pytest.raises(InputError, match="7 in train is not text"):
        load("hub:a/b", source="de", target="n")


def test_hub_pairs_are_looked_at_a_few_rows_at_a_time_and_keep_their_order(hub):
    rows = {"a": [f"{n}" if n % 3 else "" for n in range(2500)], "b": [f"{n}" for n in range(2500)]}
    split = datasets.Dataset.from_dict(rows)
    hub(datasets.DatasetDict({"train": split, "validation": split.select([1, 2])}))
    with pytest.warns(UserWarning, match="dropped 834 of 2500 rows of train"):
        corpus = load("hub:a/b")
    kept = [f"{n}" for n in range(2500) if n % 3]
    assert corpus["train"][:] == {"source": kept, "target": kept}
