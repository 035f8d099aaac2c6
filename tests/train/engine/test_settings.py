import json
import shutil
import signal
from dataclasses import dataclass
from typing import get_type_hints

import pytest
import torch
from helpers_scripts import refused

from minitransformer import InputError, processor
from train import compare_sentiment
from train.engine.results import finish, finished
from train.engine.run_folder import create_run
from train.engine.run_folder import open_run as choose_run
from train.engine.settings import Settings
from train.finetune import __main__ as finetune
from train.finetune.settings import FinetuneSettings
from train.pretrain.bert import __main__ as pretrain_bert
from train.pretrain.gpt import __main__ as pretrain_gpt
from train.translate import __main__ as translate


@dataclass(frozen=True)
class Some(Settings):
    """Settings of some script."""

    size: int = 3
    quick: bool = True


def open_run(settings_class, name, arguments):
    settings, folder = choose_run(settings_class, name, arguments)
    create_run(folder, settings)
    return settings, folder


@pytest.mark.parametrize("more", [[], ["--resume", "auto"]], ids=["starts", "resumes or starts"])
@pytest.mark.parametrize("folder", ["new", "."], ids=["new", "empty"])
def test_a_new_run_writes_its_settings_when_it_is_created_and_not_before(tmp_path, more, folder):
    run = tmp_path / folder
    arguments = ["--out", str(run), "--size", "5", "--seed", str(2**32 - 1), *more]
    choose_run(Some, "some", arguments)
    assert not list(tmp_path.iterdir())
    settings, found = open_run(Some, "some", arguments)
    assert (settings.size, found) == (5, run)
    assert json.loads((run / "config.json").read_text())["size"] == 5


def test_a_run_folder_is_never_overwritten(tmp_path):
    open_run(Some, "some", ["--out", str(tmp_path / "run")])
    (tmp_path / "file").write_text("mine")
    for taken, way in (("run", ": resume it with --resume"), ("file", ": choose another --out")):
        with pytest.raises(InputError, match=f"exists already{way}"):
            open_run(Some, "some", ["--out", str(tmp_path / taken)])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("way", [["--resume", "RUN"], ["--resume", "auto", "--out", "RUN"]], ids=["resume", "auto"])
def test_a_resumed_run_keeps_its_settings_and_names_those_that_are_not_its_own(tmp_path, way):
    run = str(tmp_path / "run")
    way = [run if word == "RUN" else word for word in way]
    open_run(Some, "some", ["--out", run, "--size", "5", "--steps", "9"])
    for more in ([], ["--size", "5"]):
        settings, folder = open_run(Some, "some", [*way, *more])
        assert (settings.size, settings.steps, folder) == (5, 9, tmp_path / "run")
    with pytest.raises(InputError, match="size=5, now 6"):
        open_run(Some, "some", [*way, "--size", "6"])
    with pytest.raises(InputError, match="--resume auto needs --out"):
        open_run(Some, "some", ["--resume", "auto"])


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def run_id_of(run):
    return json.loads((run / "config.json").read_text())["run_id"]


def test_a_finished_run_says_where_its_results_are_and_exits_with_code_0(tmp_path, capsys):
    run = tmp_path / "run"
    open_run(Some, "some", ["--out", str(run)])
    (run / "model.safetensors").write_bytes(b"weights")
    finish(tmp_path / "run", {"score": 1}, run_id_of(run))
    with pytest.raises(SystemExit) as exit_:
        choose_run(Some, "some", ["--resume", str(run)])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"{run} is finished: its results are in {run}/results.json")
    with pytest.raises(InputError, match="size=3, now 4"):
        choose_run(Some, "some", ["--resume", str(run), "--size", "4"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "model.safetensors").unlink(), "its model.safetensors is gone: put it back, or delete"),
        (lambda run: (run / "model.safetensors").write_bytes(b"w"), "its model.safetensors has changed: put it back"),
        (lambda run: shutil.rmtree(run / "rnn"), "its rnn/config.json is gone"),
        (lambda run: (run / "results.json").write_text("{}"), "is not what a finished run writes: delete it"),
        (lambda run: (run / "results.json").write_text("{"), "is not valid JSON"),
        (
            lambda run: edit(run / "results.json", '"score": 1', '"score": 2'),
            "is not what a finished run writes: delete",
        ),
    ],
    ids=["gone", "damaged", "one of several gone", "results of something else", "results damaged", "results changed"],
)
def test_a_finished_run_whose_model_is_gone_or_damaged_says_so(damage, message, tmp_path):
    run = tmp_path / "run"
    open_run(Some, "some", ["--out", str(run)])
    (run / "rnn").mkdir()
    for folder in (run, run / "rnn"):
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "config.json").touch()
    finish(run, {"score": 1}, run_id_of(run))
    damage(run)
    with pytest.raises(InputError, match=message):
        choose_run(Some, "some", ["--resume", str(run)])


def test_a_finished_part_of_another_run_is_refused_without_its_checkpoints_too(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, other):
        open_run(Some, "some", ["--out", str(folder)])
        (folder / "rnn").mkdir()
        finish(folder / "rnn", {"score": 1}, f"{run_id_of(folder)}/rnn")
        finish(folder, {"score": 1}, run_id_of(folder))
    assert finished(run / "rnn", f"{run_id_of(run)}/rnn") == {"score": 1}
    shutil.rmtree(run / "rnn")
    shutil.copytree(other / "rnn", run / "rnn")
    with pytest.raises(InputError, match=r"rnn/results\.json is of another run: put back what was moved"):
        choose_run(Some, "some", ["--resume", str(run)])


@pytest.mark.parametrize("lines", [None, '{"step": 1}\n{"step": 2'], ids=["gone", "cut"])
def test_a_finished_run_whose_metrics_are_not_whole_says_so(lines, tmp_path):
    run = tmp_path / "run"
    open_run(Some, "some", ["--out", str(run)])
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    finish(run, {"steps": 2}, run_id_of(run))
    (run / "metrics.jsonl").unlink()
    if lines is not None:
        (run / "metrics.jsonl").write_text(lines)
    with pytest.warns(UserWarning, match="metrics.jsonl was changed since the run wrote it"), pytest.raises(SystemExit):
        choose_run(Some, "some", ["--resume", str(run)])


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "has no config.json"), ("{", "not the settings"), ('{"size": 3}', "not the settings"), ("[]", "not the")],
)
def test_resuming_what_is_not_a_run_says_so(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_run(Some, "some", ["--resume", str(tmp_path)])
    with pytest.raises(InputError, match="is not a folder"):
        open_run(Some, "some", ["--resume", str(tmp_path / "nowhere")])


@pytest.mark.parametrize("script", [translate, pretrain_gpt, pretrain_bert, finetune, compare_sentiment])
def test_every_number_of_every_script_has_bounds(script, tmp_path, capsys):
    kind = settings_of(script)
    hints = get_type_hints(kind)
    values = {float: ("inf", "nan", "-inf"), int: (str(10**30), str(-(10**30)))}
    given = [(name, value) for name in hints for of in values if hints[name] in (of, of | None) for value in values[of]]
    assert {("minutes", "nan"), ("threads", str(10**30))} <= set(given)
    for name, value in given:
        if name == "processes":  # no flag
            continue
        number = float(value) if hints[name] in (float, float | None) else int(value)
        with pytest.raises(InputError, match=f"^--{name.replace('_', '-')} {value} must be "):
            kind(**{name: number}).validate()
    line = refused(capsys, ["--out", str(tmp_path / "run"), "--minutes=nan"], script.main)
    assert line.startswith("error: --minutes nan must be ")
    assert not (tmp_path / "run").exists()


def settings_of(script):
    def is_own(kind):
        return issubclass(kind, Settings) and kind.__module__ in (script.__name__, f"{script.__package__}.settings")

    return next(kind for kind in vars(script).values() if isinstance(kind, type) and is_own(kind))


@pytest.mark.parametrize("given", [["--size", "3"], ["--size=4"], ["--no-quick"], ["--quick"]], ids=" ".join)
def test_a_flag_without_effect_is_refused_even_with_its_default(given, tmp_path):
    flag = given[0][:6] if "size" in given[0] else "--quick"
    settings, _ = choose_run(Some, "some", ["--out", str(tmp_path / "run"), *given])
    with pytest.raises(InputError, match=f"^{flag}: no effect beside --other; leave this out"):
        settings.refuse_idle("beside --other", "size", "quick", "seed")
    Some().refuse_idle("beside --other", "size", "quick", "seed")


@pytest.mark.parametrize("way", ["--resume RUN", "--resume auto --out RUN"])
@pytest.mark.parametrize(
    ("script", "began", "flag"),
    [
        (finetune, "--init scratch", "--num-layers 1"),
        (finetune, "--init scratch", "--cased"),
        (pretrain_gpt, "--tokenizer bpe", "--vocab-size 90"),
        (pretrain_bert, "--objective bert", "--cased"),
        (translate, "--preset tiny", "--models rnn-local-p"),
    ],
)
def test_a_flag_of_a_resumed_run_is_judged_by_the_settings_of_the_run(script, began, flag, way, tmp_path):
    kind, data, run = settings_of(script), tmp_path / "data.txt", str(tmp_path / "run")
    data.write_text("text\n")
    open_run(kind, "some", ["--out", run, "--data", str(data), *began.split(), *flag.split()])
    settings, _ = choose_run(kind, "some", [*way.replace("RUN", run).split(), *flag.split()])
    assert flag.split()[0][2:].replace("-", "_") in settings.given


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"evaluations": 5}, "--evaluations 5: a run of 4 steps has 4"),
        ({"patience": 3}, "--patience 3: no effect on a run of 4 evaluations"),
        ({"patience": 2}, None),
        (
            {"warmup": 2.0},
            "--warmup: the warm-up takes 5 steps, and the run 4: the learning rate never reaches --lr",
        ),
        ({}, None),  # the defaults are 6 evaluations and a patience of 4
    ],
)
def test_flags_that_a_run_is_too_short_for_are_said(flags, says, recwarn):
    settings = FinetuneSettings(steps=4, **flags)
    settings.loop_options(lr=1.0, warmup_steps=5, evaluations=settings.evaluations, patience=settings.patience)
    assert [str(warning.message) for warning in recwarn] == ([] if says is None else [says])


@pytest.mark.parametrize(
    ("max_tokens", "says"),
    [
        (18, "--max-tokens 18: all training data have less, so an epoch is one batch"),
        (17, None),
        (5, "--max-tokens 5: 2 of 3 training rows have more tokens, and are batches of their own"),
        (1024, None),  # the default
    ],
)
def test_a_largest_batch_that_is_not_one_is_said(max_tokens, says, recwarn):
    FinetuneSettings(max_tokens=max_tokens).warn_of_batches("max_tokens", torch.tensor([[1, 1], [2, 4], [2, 4]]))
    assert [str(warning.message) for warning in recwarn] == ([] if says is None else [says])


def test_out_beside_a_run_to_resume_is_refused(tmp_path):
    open_run(Some, "some", ["--out", str(tmp_path / "run")])
    with pytest.raises(InputError, match=f"^--out: no effect beside --resume {tmp_path / 'run'}; leave this out"):
        choose_run(Some, "some", ["--resume", str(tmp_path / "run"), "--out", str(tmp_path / "run")])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_run_began_is_one_line(number, code, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Some, "validate", lambda self: signal.raise_signal(number))
    with pytest.raises(SystemExit) as exit_:
        choose_run(Some, "some", ["--out", str(tmp_path / "run")])
    assert exit_.value.code == code
    assert capsys.readouterr() == ("stopped before it began\n", "")


@pytest.mark.parametrize(
    ("has_avx512_bf16", "amd", "has_amx", "dtype"),
    [
        (False, True, False, None),
        (True, False, False, None),
        (True, True, False, torch.bfloat16),
        (False, False, True, torch.bfloat16),
    ],
)
def test_precision_auto_is_bfloat16_where_it_is_multiplied_faster(has_avx512_bf16, amd, has_amx, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    monkeypatch.setattr(processor, "on_amd", lambda: amd)
    assert Settings(device="cpu").autocast_dtype() is dtype
    assert Settings(device="cpu", precision="fp32").autocast_dtype() is None
    assert Settings(device="cpu", precision="bf16").autocast_dtype() is torch.bfloat16


def test_compiling_on_a_cpu_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^--compile: compiled steps take 1\.7 times as long on a CPU"):
        choose_run(Some, "some", ["--out", str(tmp_path / "run"), "--compile", "--device", "cpu"])


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--device cuda"):
        Settings(device="cuda").torch_device()
