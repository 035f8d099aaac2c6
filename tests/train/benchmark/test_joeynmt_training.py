"""JoeyNMT's trainer and ours train on the same pieces."""

import sys
from types import SimpleNamespace

import datasets
import pytest
from rich.console import Console

from minitransformer.data.pair_batches import Seq2SeqData
from minitransformer.tokenization import train_bpe_tokenizer
from train.benchmark import joeynmt_training as part
from train.benchmark.timing import Machine

SPECIAL = {"pad": 0, "unk": 1, "bos": 2, "eos": 3}
FLOAT32_ALONE = Machine(peak=1.0, bfloat16_peak=0.5, read_rate=1.0)


@pytest.fixture
def pairs(monkeypatch):
    monkeypatch.setattr(
        part, "SIZES", dict(d_model=16, num_heads=2, d_ff=16, num_encoder_layers=1, num_decoder_layers=1)
    )
    monkeypatch.setattr(part, "BATCH_TOKENS", 40)
    split = datasets.Dataset.from_dict(
        {"source": ["ein Hund", "eine Katze", "zwei"], "target": ["a dog", "cats", "two"]}
    )
    tokenizer = train_bpe_tokenizer([*split["source"], *split["target"]], 40)
    return Seq2SeqData(split, tokenizer, tokenizer)


def test_a_turn_of_ours_counts_the_targets_of_its_steps(pairs):
    turn = part.our_turn(pairs, SPECIAL, 40, None)
    targets = {len(rows): int(pairs.lengths[rows, 1].sum()) - len(rows) for rows in pairs.batches(40, seed=0, pool=200)}
    tokens, steps, seconds = turn(0.0)
    assert steps == 1 and tokens in targets.values() and seconds > 0


def test_joeynmt_reads_a_word_for_each_piece(pairs, tmp_path):
    part.write_words(pairs, SPECIAL, 40, tmp_path)
    words = (tmp_path / "words").read_text().splitlines()
    assert words[:5] == ["<pad>", "<unk>", "<s>", "</s>", "piece4"] and len(words) == 40
    for side, column in (("source", 0), ("target", 1)):
        lines = (tmp_path / f"train.{side}").read_text().splitlines()
        for row, line in enumerate(lines):
            ids = pairs.batch([row])[f"{side}_ids"][0].tolist()
            frame = ([], [3]) if column == 0 else ([2], [3])
            assert [*frame[0], *map(words.index, line.split(" ")), *frame[1]] == ids


def test_without_joeynmt_a_line_says_so_and_ours_is_measured_alone(tmp_path, pairs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "joeynmt", None)
    monkeypatch.setattr(part, "VOCAB", 40)
    for suffix, word in (("de", "Hund"), ("en", "dog")):
        (tmp_path / f"text.{suffix}").write_text("".join(f"{word} {word * n}\n" for n in range(1, 31)))
    settings = SimpleNamespace(data=str(tmp_path / "text"), source="de", target="en", rounds=1, quick=True)
    [row] = part.joeynmt_training(settings, FLOAT32_ALONE, Console())
    assert row["ours"] > 0 and "ratio" not in row
    assert "JoeyNMT is not installed" in capsys.readouterr().out


def test_both_sides_count_the_same_targets(pairs, tmp_path, monkeypatch):
    pytest.importorskip("joeynmt", reason="JoeyNMT, which pins old versions of much, is installed by hand")
    monkeypatch.setattr(part, "BATCH_TOKENS", 1000)  # a step reads all pairs
    targets = int(pairs.lengths[:, 1].sum()) - len(pairs)
    for turn in (part.our_turn(pairs, SPECIAL, 40, None), part.joeynmt_turn(pairs, SPECIAL, 40, tmp_path)):
        assert turn(0.0)[:2] == (targets, 1)
