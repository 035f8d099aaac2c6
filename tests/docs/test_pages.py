"""README and the pages of `docs/`: every Python block runs, and every command line is one that its program takes."""

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import tyro
from helpers_page import rnn, transformer
from sybil import Sybil
from sybil.example import Example
from sybil.parsers.markdown import PythonCodeBlockParser

from minitransformer import GPT, Completer, GPTConfig
from minitransformer.tokenization import train_byte_bpe_tokenizer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOWNLOADS = 'from_pretrained("minilm")'
"""A block with these words downloads 83 MB when the cache is empty."""
HARNESS = "from lm_eval"
"""A block with these words needs the extra lm-eval."""


def blocks(page: Path) -> list[Example]:
    """The page's Python blocks, in one namespace."""
    return list(Sybil(parsers=[PythonCodeBlockParser()], path=str(page.parent)).parse(page).examples())


PYTHON_PAGES = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with what the pages take to be there: a checkpoint of Hugging Face and runs. The models of the
    talk take two steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALK_STEPS", "2")
    tokenizer = train_byte_bpe_tokenizer(["to be"], 270)
    gpt = GPT(
        GPTConfig(tokenizer.get_vocab_size(), max_length=8, d_model=8, num_heads=1, num_layers=1, eos_id=1)
    ).eval()
    gpt.export("folder-or-hub-id")
    Completer(gpt, tokenizer).save("runs/pretrain-gpt-...")
    transformer().save("runs/translate-.../transformer")
    (tmp_path / "runs/translate-.../transformer/metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n')
    rnn().save("runs/translate-.../rnn-location")


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.stem)
def test_every_python_block_runs(page, folder, monkeypatch):
    for block in blocks(page):
        if "import wandb" in block.parsed:  # tests of loggers call this recipe
            monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace())
        if DOWNLOADS not in block.parsed and HARNESS not in block.parsed:
            block.evaluate()


@pytest.mark.slow
def test_the_blocks_of_the_harness_run(folder, monkeypatch):
    pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", "cache")
    page = ROOT / "docs" / "checkpoints.md"
    assert any(HARNESS in block.parsed for block in blocks(page))
    for block in blocks(page):
        block.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_is_as_wide_as_the_site_shows(page):
    fenced = re.findall(r"^```\w+\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert not [line for block in fenced for line in block.splitlines() if len(line) > 84]


@pytest.mark.slow
def test_the_blocks_that_download_a_model_run(folder):
    for page in PYTHON_PAGES:
        for block in blocks(page):
            if DOWNLOADS in block.parsed:
                block.evaluate()


PROGRAM = r"(?:torchrun .*-m (train\S*)|python -m (train\S*)|(minitransformer)(?= \S+ \S)) (?=[a-z-])"
PLACEHOLDERS = {" N": " 1", " RATE": " 0.1", " [--data ...]": ""}


def commands() -> list[str]:
    """Every command line of the pages, in a shell block or in backticks, once."""
    lines = []
    for page in PAGES:
        prose, *fenced = re.split(r"^```", page.read_text(encoding="utf-8"), flags=re.M)
        for block, after in zip(fenced[::2], fenced[1::2], strict=True):
            lines += block.replace("\\\n", " ").splitlines() if block.startswith(("bash", "sh")) else []
            prose += after
        lines += re.findall(r"`([^`]+)`", prose)
    return sorted({line.strip() for line in lines if re.match(PROGRAM, line)})


class Parsed(BaseException):
    """The program has taken its command line."""


def parsing_only(parser):
    def parse(*arguments, **options):
        parser(*arguments, **options)
        raise Parsed

    return parse


@pytest.mark.parametrize("command", commands())
def test_the_program_takes_the_command_line(command, monkeypatch):
    monkeypatch.setattr(tyro, "cli", parsing_only(tyro.cli))
    monkeypatch.setattr(tyro.extras, "subcommand_cli_from_dict", parsing_only(tyro.extras.subcommand_cli_from_dict))
    monkeypatch.setattr("train.engine.flags_file.read_flags", lambda *_: {})  # of files that are not here
    for placeholder, value in PLACEHOLDERS.items():
        command = command.replace(placeholder, value)
    found = re.match(PROGRAM, command)
    words = shlex.split(command[found.end() :].partition(" > ")[0], comments=True)
    module = next(filter(None, found.groups()))
    with pytest.raises(Parsed):
        _main(module)(words)


def _main(module: str):
    try:
        return import_module(f"{module}.__main__").main
    except ModuleNotFoundError:
        return import_module(module).main
