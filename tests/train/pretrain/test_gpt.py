import json
import math
import re
from dataclasses import replace

import datasets
import pytest
import torch
from helpers_scripts import refused, results_of, samples_of

import minitransformer
from minitransformer import greedy
from minitransformer.__main__ import main as command
from minitransformer.data.streams import stream_rows
from minitransformer.models import GPT, GPTConfig
from minitransformer.pipelines.completer import Completer
from minitransformer.tokenization import load_tokenizer
from train.pretrain.__main__ import main
from train.pretrain.gpt.settings import GPTSettings
from train.pretrain.gpt.stream_loss import stream_loss

pytestmark = pytest.mark.usefixtures("as_users_run_it")
SIZES = ["--num-layers", "1", "--d-model", "16", "--num-heads", "2"]
WINDOWS = ["--context", "12", "--batch-size", "3", "--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "text.txt"
    lines = (f"{number} green bottles, hanging on the wall.\n" for number in range(60))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_muon_plus_is_muon_with_normalized_updates():
    model = GPT(GPTConfig(8, 8, 8, 2, num_layers=1))
    matrices = {name: GPTSettings(optimizer=name).new_optimizer(model).optimizers[0] for name in ("muon", "muon+")}
    assert {name: optimizer.normalize for name, optimizer in matrices.items()} == {"muon": False, "muon+": True}
    assert GPTSettings(optimizer="muon+").peak_lr == 5e-3


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    main(["gpt", "--data", str(text), *SIZES, *WINDOWS, "--steps", "6", "--out", str(folder)])
    return folder


def test_the_run_folder_holds_the_figures_the_model_and_its_tokenizer(run, text):
    results = results_of(run)
    model, tokenizer = minitransformer.load(run), load_tokenizer(run / "tokenizer.json")
    assert results["parameters"] == model.num_parameters()
    assert results["steps"] == 6
    assert results["tokens_per_second"] == pytest.approx(6 * 36 / results["seconds"])
    everything = text.read_text()
    last_tenth = everything[int(0.9 * len(everything)) :]
    ids = stream_rows(datasets.Dataset.from_dict({"text": [last_tenth]}), tokenizer).ids
    assert results["validation_loss"] == pytest.approx(stream_loss(model, ids, 12))
    bits = results["validation_loss"] * (len(ids) - 1) / math.log(2)
    assert results["bits_per_byte"] == pytest.approx(bits / len(last_tenth.encode()))
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert isinstance(results["sample"], str)
    assert [list(sample) for sample in samples_of(run)] == [["sample"]] * 6


def test_the_loss_of_a_stream_is_that_of_each_token_given_those_before_it_in_its_window():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=7, max_length=4, d_model=8, num_heads=2, num_layers=1, eos_id=0)).eval()
    ids = torch.randint(7, (11,), dtype=torch.int32)
    losses = []
    for place in range(1, 11):
        window = ids[None, (place - 1) // 4 * 4 : place].long()
        losses.append(-model(window)[0, -1].log_softmax(dim=-1)[ids[place]].item())
    for batch_tokens in (1, 8, 100):
        assert stream_loss(model, ids, 4, batch_tokens=batch_tokens) == pytest.approx(sum(losses) / 10, abs=1e-6)
    assert stream_loss(model, ids, 4, every=2) == pytest.approx((sum(losses[:4]) + sum(losses[8:])) / 6, abs=1e-6)


def test_short_texts_of_a_table_are_each_predicted_as_if_alone_and_a_flag_makes_one_stream_of_them(tmp_path, capsys):
    for split, count in (("train", 40), ("validation", 5)):
        rows = [json.dumps({"content": f"{n} green bottles", "title": "song"}) for n in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    flags = ["gpt", "--data", str(tmp_path), "--text", "content", *SIZES, *WINDOWS, "--context", "40"]
    flags += ["--steps", "3", "--out"]
    main([*flags, str(tmp_path / "alone")])
    assert "--texts stream" in capsys.readouterr().out
    results, completer = results_of(tmp_path / "alone"), Completer.load(tmp_path / "alone")
    end = completer.model.config.eos_id
    texts = [completer.tokenizer.encode(f"{n} green bottles", add_special_tokens=False).ids for n in range(5)]
    losses = [completer.model.loss({"ids": torch.tensor([[end, *ids, end]])})["lm"] for ids in texts]
    nats, count = (sum(part.item() for part in parts) for parts in zip(*losses, strict=True))
    assert results["validation_loss"] == pytest.approx(nats / count, abs=1e-5)
    assert results["bits_per_byte"] == pytest.approx(nats / math.log(2) / sum(map(len, texts)), abs=1e-5)
    main([*flags, str(tmp_path / "stream"), "--texts", "stream"])
    assert "--texts" not in capsys.readouterr().out
    assert results_of(tmp_path / "stream")["validation_loss"] != results["validation_loss"]


@pytest.mark.parametrize("texts", ["stream", "alone"])
def test_a_batch_larger_than_the_text_is_said(texts, text, tmp_path, capsys):
    flags = ["gpt", "--data", str(text), *SIZES, *WINDOWS, "--texts", texts, "--steps", "1", "--batch-size", "999"]
    main([*flags, "--out", str(tmp_path / "run")])
    assert re.search(r"--batch-size 999: the training text has 1\d\d windows of 12 tokens", capsys.readouterr().err)


def test_a_run_starts_from_another(text, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    common = ["gpt", "--data", str(text), "--steps", "4", *WINDOWS]
    gpt2 = ["--architecture", "gpt2", "--optimizer", "adamw", "--tokenizer", "byte-bpe", "--vocab-size", "2000"]
    main([*common, *SIZES, *gpt2, "--out", str(first)])
    size = results_of(first)["vocab_size"]
    warning = f"warning: the text gives only {size:,} pieces, fewer than the 2,000 asked for"
    assert capsys.readouterr().err.splitlines().count(warning) == 1
    main([*common, "--init", str(first), "--out", str(second)])
    assert results_of(second)["validation_loss"] < results_of(first)["validation_loss"]
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    "architecture", ["modern", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "llama", "qwen3"))]
)
def test_transformers_continues_a_prompt_with_an_exported_run_as_we_do(architecture, run, text, tmp_path, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if architecture != "modern":  # the default
        run = tmp_path / "run"
        kind = ["--architecture", architecture, "--tokenizer", "byte-bpe", "--vocab-size", "300"]
        main(["gpt", "--data", str(text), *SIZES, *WINDOWS, *kind, "--steps", "6", "--out", str(run)])
    completer = Completer.load(run)
    completer.model.export(tmp_path / "exported", completer.tokenizer)
    theirs, tokenizer = (kind.from_pretrained(tmp_path / "exported") for kind in (AutoModelForCausalLM, AutoTokenizer))
    ids = tokenizer("7 green", return_tensors="pt")
    whole = theirs.generate(**ids, max_new_tokens=9, do_sample=False)[0].tolist()
    mine = greedy(completer.model, ids.input_ids, max_new_tokens=9)[0].tolist()
    assert whole == [*ids.input_ids[0].tolist(), *mine]
    options = ["--prompt", "7 green", "--max-new-tokens", "9", "--temperature", "0"]
    capsys.readouterr()
    written = [generated(capsys, folder, *options) for folder in (run, tmp_path / "exported")]
    assert written[0] == written[1]
    again = GPT.from_pretrained(tmp_path / "exported")
    assert again.config == replace(completer.model.config, bos_id=again.config.bos_id)
    again.export(tmp_path / "again", completer.tokenizer)
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "exported" / file).read_bytes()


def test_unknown_characters_are_counted_and_mostly_unknown_text_is_refused(run, text, tmp_path, capsys):
    foreign, mixed = tmp_path / "foreign.txt", tmp_path / "mixed.txt"
    foreign.write_text("早上好，世界。" * 100, encoding="utf-8")
    mixed.write_text(text.read_text() + "été " * 20, encoding="utf-8")
    options = ["--init", str(run), "--steps", "1", *WINDOWS]
    line = refused(capsys, [*options, "--data", str(foreign), "--out", str(tmp_path / "one")], main)
    assert "630 of 631 tokens of train are unknown to the tokenizer" in line
    assert not (tmp_path / "one").exists()
    main([*options, "--data", str(mixed), "--out", str(tmp_path / "two")])
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: 40 of ")
    assert "tokens of validation are unknown" in warning


def test_help_names_both_models(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "train.pretrain bert --help" in capsys.readouterr().out


def generated(capsys, *arguments):
    capsys.readouterr()
    command(["generate", *map(str, arguments)])
    return capsys.readouterr().out


def test_generate_prints_the_prompt_and_what_the_model_makes_of_it(run, capsys):
    options = [run, "--prompt", "1 gr", "--max-new-tokens", "30", "--seed"]
    first, again, other = (generated(capsys, *options, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first.startswith("1 gr")
    assert first.endswith("\n")
    assert len(generated(capsys, run, "--max-new-tokens", "20", "--seed", "1")) > 1


def test_generate_refuses_to_stop_at_what_is_no_token(run, capsys):
    message = refused(capsys, ["generate", str(run), "--stop", "bottle"], command)
    assert "--stop 'bottle': not a token of this model's tokenizer" in message
