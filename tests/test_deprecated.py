import importlib
import pickle
import subprocess
import sys

import pytest

import minitransformer
import train  # noqa: F401 - it adds its own old paths
from minitransformer.data import load
from minitransformer.deprecated import MOVED

OLD = [(old, name) for old, names in MOVED.items() for name in names]


@pytest.mark.parametrize("old, name", OLD)
def test_an_old_path_gives_what_is_at_the_new_one_and_warns(old, name):
    with pytest.warns(DeprecationWarning, match=f"^{old}.{name} is deprecated: use "):
        found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(MOVED[old][name]), name)


def test_importing_an_old_module_imports_nothing_else():
    code = (
        "import sys, minitransformer; before = {*sys.modules}; import minitransformer.completion;"
        "print(*{*sys.modules} - before); minitransformer.completion.Completer"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "minitransformer.completion\n"
    assert done.stderr.startswith("<string>:1: DeprecationWarning: minitransformer.completion.Completer is deprecated")


def test_what_was_pickled_under_an_old_path_can_be_read():
    by_name = b"cminitransformer.completion\nCompleter\n."
    with pytest.warns(DeprecationWarning):
        assert pickle.loads(by_name) is minitransformer.Completer
    assert b"pipelines" in pickle.dumps(minitransformer.Completer)


def test_load_labelled_gives_the_names_and_texts_of_load(tmp_path):
    rows = [f"film {i},{'good' if i % 2 else 'bad'}\n" for i in range(40)]
    (tmp_path / "films.csv").write_text("text,label\n" + "".join(rows))
    with pytest.warns(DeprecationWarning, match=r"load\(..., kind='labelled'\)"):
        from minitransformer.data.labels import load_labelled
    corpus, loaded = load_labelled(tmp_path / "films.csv"), load(tmp_path / "films.csv", kind="labelled")
    assert corpus.names == ("bad", "good")
    assert {split: [*part.texts] for split, part in corpus.splits.items()} == {
        k: [*v["text"]] for k, v in loaded.items()
    }
    assert [*corpus.splits["test"].labels] == [*loaded["test"]["label"]]
