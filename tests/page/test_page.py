import base64
import hashlib
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers_page import data_of, made_view
from setuptools import build_meta

from minitransformer import InputError
from minitransformer.page import Grid, View, attention_page
from minitransformer.page.page import page_html
from minitransformer.page.room import MOST_CELLS

ROOT = Path(__file__).parents[2]


def test_a_page_holds_the_tokens_and_every_weight():
    view = made_view(layers=2, heads=3, queries="abcd", keys="xyz", text="a text", title="a model")
    [found] = data_of(page_html([view]))["views"]
    [grid], [given] = found["grids"], view.grids
    assert (found["title"], found["text"], found["steps"]) == ("a model", "a text", [])
    assert (grid["queries"], grid["keys"]) == (list("abcd"), list("xyz"))
    maps = {(each["layer"] - 1, each["head"] - 1): base64.b64decode(each["bytes"]) for each in grid["maps"]}
    assert maps == {place: given.weights[place].tobytes() for place in np.ndindex(2, 3)}


def test_six_by_six_heads_of_64_tokens_are_under_300_kb(tmp_path):
    tokens = [f"token{i}" for i in range(64)]
    path = attention_page(made_view(layers=6, heads=6, queries=tokens, keys=tokens), tmp_path / "page.html")
    assert path.stat().st_size < 300_000


def test_nothing_in_a_text_ends_the_data_or_is_markup():
    evil = "</script><img src=x onerror=alert(1)>\u2028<!--$title"
    html = page_html([made_view(queries=[evil], keys=[evil], text=evil, title=evil, notes=(evil,))])
    assert html.count("</script>") == 2 and "<img" not in html and "<!--" not in html
    [view] = data_of(html)["views"]
    assert view["text"] == view["title"] == view["grids"][0]["keys"][0] == evil


def test_the_policy_allows_the_pages_own_style_and_script_alone():
    html = page_html([made_view()])
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for name, tag in (("style-src", r"<style>(.*?)</style>"), ("script-src", r'<script type="module">(.*?)</script>')):
        digest = hashlib.sha256(re.search(tag, html, re.DOTALL)[1].encode()).digest()
        assert rules[name] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert set(rules) == {"default-src", "style-src", "script-src", "base-uri", "form-action"}
    assert not re.search(r"https?://|url\(|@import|\bimport\b", html)


def test_too_many_weights_are_refused_in_one_line_that_says_how(tmp_path):
    tokens = ("",) * 600
    view = View("long", "text", (Grid("encoder", tokens, tokens, np.zeros((6, 6, 600, 600), np.uint8)),))
    said = (
        rf"^12,960,000 weights are more than the {MOST_CELLS:,} .* 6 layers and 6 heads of 600 x 600 .*layers=, heads="
    )
    with pytest.raises(InputError, match=said):
        attention_page(view, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
    attention_page(view, tmp_path / "page.html", layers=[6], heads=[1, 2])
    [grid] = data_of((tmp_path / "page.html").read_text())["views"][0]["grids"]
    assert (grid["layers"], grid["heads"]) == ([6], [1, 2])


def test_numbers_that_no_model_has_are_refused(tmp_path):
    views = [made_view(layers=2, heads=2), made_view(layers=4, heads=1)]
    with pytest.raises(InputError, match="layers=5-6: there are layers 1-4"):
        attention_page(views, tmp_path / "page.html", layers=[1, 5, 6])
    with pytest.raises(InputError, match="heads=0: there are heads 1-2"):
        attention_page(views, tmp_path / "page.html", heads=[0])
    with pytest.raises(InputError, match="made has layers 1-2"):
        attention_page(views, tmp_path / "page.html", layers=[3])


def test_a_page_that_cannot_be_written_is_refused(tmp_path):
    for name, said in (("page.pdf", "ends in .html"), ("no/where.html", "there is no folder")):
        with pytest.raises(InputError, match=said):
            attention_page(made_view(), tmp_path / name)
    (tmp_path / "page.html").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        attention_page(made_view(), tmp_path / "page.html")
    with pytest.raises(InputError, match="no view"):
        attention_page([], tmp_path / "other.html")


def test_notes_name_their_models_unless_all_have_them():
    one, other = made_view(title="one", notes=("cut", "odd")), made_view(title="other", notes=("cut",))
    assert data_of(page_html([one, other]))["notes"] == ["cut", "one: odd"]


def test_texts_read_as_different_tokens_are_said_to_be():
    views = [made_view(keys="xy"), made_view(keys=["xy"])]
    assert data_of(page_html(views))["notes"] == [
        "the models read the text as different tokens, which are not linked to one another"
    ]
    padded = made_view(keys=["x", "y", "[PAD]"])
    assert data_of(page_html([views[0], padded]))["notes"] == []


def test_the_wheel_has_the_files_of_the_page(tmp_path, monkeypatch):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(
        ROOT / "minitransformer", tmp_path / "minitransformer", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.chdir(tmp_path)
    wheel = build_meta.build_wheel(str(tmp_path))
    files = zipfile.ZipFile(tmp_path / wheel).namelist()
    assert {f"minitransformer/page/page.{kind}" for kind in ("html", "css", "js")} <= set(files)
