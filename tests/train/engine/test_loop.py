import json
import math
import re
import shutil

import pytest
import torch
from helpers_training import (
    MODELS,
    Copying,
    die,
    interrupt,
    lines,
    rates,
    ruin,
    run,
    scored,
    take_a_second_a_step,
)

from minitransformer import InputError
from train.engine.data_parallel import Replica
from train.engine.loop import accumulate_gradients
from train.engine.resuming import Checkpoints
from train.engine.settings import LoopOptions
from train.engine.signals import TrainingInterrupted
from train.engine.state import State, require_scores


def takes_no_step():
    return Copying({1: lambda: pytest.fail("it takes another step")})


def require_same(whole, resumed, whole_folder, resumed_folder):
    (model, state), (same, same_state) = whole, resumed
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert lines(whole_folder) == lines(resumed_folder)
    for name in ("step", "tokens", "best_step", "best_score"):
        assert getattr(state, name) == getattr(same_state, name)


@pytest.mark.parametrize(
    ("method", "step", "fault"),
    [("save", 12, interrupt), ("save_weights", 12, interrupt), ("save_weights", 3, die)],
)
def test_a_run_stopped_in_its_writes_ends_as_one_never_stopped(method, step, fault, tmp_path, monkeypatch):
    """By a signal in the last writes, or killed between its best weights and a checkpoint."""
    whole = run(tmp_path / "whole")
    write = getattr(Checkpoints, method)

    def stopped(self, *arguments):
        write(self, *arguments)
        if step == (arguments[-1] if method == "save_weights" else arguments[-1]["step"]):
            fault()

    with monkeypatch.context() as patch, pytest.raises(MemoryError if fault is die else TrainingInterrupted):
        patch.setattr(Checkpoints, method, stopped)
        run(tmp_path / "cut")
    left = {path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()}
    assert left == {"evaluated-00000003"} if fault is die else "step-00000012" in left
    resumed = run(tmp_path / "cut", data=None if fault is die else takes_no_step())
    require_same(whole, resumed, tmp_path / "whole", tmp_path / "cut")


def test_a_run_killed_before_it_removes_its_last_old_weights_leaves_no_more_than_another(tmp_path, monkeypatch):
    each_step = {"evaluations": 12, "checkpoint_seconds": 0.0}
    run(tmp_path / "whole", **each_step)
    saved, remove = [], Checkpoints.remove_evaluated

    def killed(self, **kept):
        saved.append(self)
        die() if len(saved) == 12 else remove(self, **kept)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(Checkpoints, "remove_evaluated", killed)
        run(tmp_path / "cut", **each_step)
    run(tmp_path / "cut", data=takes_no_step(), **each_step)
    left = [{path.name for path in (tmp_path / name / "checkpoints").iterdir()} for name in ("whole", "cut")]
    assert left[0] == left[1]


def test_the_last_checkpoint_has_the_optimizer_and_takes_no_further_step(tmp_path):
    model, state = run(tmp_path)
    last = tmp_path / "checkpoints" / "step-00000012"
    assert {file.stem for file in last.glob("*.safetensors")} == {"model", "optimizer"}
    again, same = run(tmp_path, data=takes_no_step())
    assert same == state
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_accumulated_gradients_equal_those_of_one_batch(kind):
    model = MODELS[kind](dropout=0.1).eval()
    data = Copying()
    options = LoopOptions(lr=1.0, steps=1)
    loss, count = accumulate_gradients(Replica(model), [data.batch([0, 1, 2, 3, 4])], options)
    whole = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    split_loss, split_count = accumulate_gradients(
        Replica(model), [data.batch([0, 1]), data.batch([2]), data.batch([3, 4])], options
    )
    assert count == split_count
    assert loss == pytest.approx(split_loss, rel=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-6)


def test_summed_reduction_is_the_mean_times_the_count():
    model = MODELS["transformer"](dropout=0.1).eval()
    batch = Copying().batch([0, 1])
    mean, count = accumulate_gradients(Replica(model), [batch], LoopOptions(lr=1.0, steps=1))
    total, _ = accumulate_gradients(Replica(model), [batch], LoopOptions(lr=1.0, steps=1, loss_reduction="sum"))
    assert total == pytest.approx(mean * count, rel=1e-5)


def test_the_model_is_left_with_its_best_weights(tmp_path):
    losses, seen = scored(3.0, 1.0, 2.0, 4.0), []

    def evaluate(model):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return losses(model)

    model, state = run(tmp_path, "rnn", evaluate=evaluate)
    assert state.best_step == 6
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(seen[1]["output.weight"], seen[3]["output.weight"])
    assert not model.training


def test_training_in_bfloat16_keeps_float32_weights(tmp_path):
    model, state = run(tmp_path, steps=3, autocast=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert state.step == 3


def test_minutes_end_a_run_and_drive_its_schedule(tmp_path, monkeypatch):
    take_a_second_a_step(monkeypatch)
    _, state = run(tmp_path, steps=None, minutes=0.2)
    assert state.seconds == state.step == 12
    assert rates(tmp_path)[-1] < 0.2 * max(rates(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path):
    with pytest.raises(InputError, match=r"loss=nan.*step 4"):
        run(tmp_path, evaluate=ruin)


def spoiled(folder, *, skip):
    """A run whose loss is no number at its second and fifth batch."""
    model, data = MODELS["transformer"](dropout=0.1), Copying()
    finite = model.loss

    def loss(batch):
        factor = float("nan") if model.training and data.given in (2, 5) else 1.0
        return {name: part._replace(total=part.total * factor) for name, part in finite(batch).items()}

    model.loss = loss
    return run(folder, model=model, data=data, steps=8, skip_not_finite=skip, checkpoint_seconds=0.0)[1]


def test_steps_that_are_not_finite_are_left_out_up_to_a_number(tmp_path):
    with pytest.warns(UserWarning, match="2 of 8 steps were skipped"):
        state = spoiled(tmp_path / "whole", skip=2)
    assert (state.step, state.skipped) == (8, 2)
    entries = json.loads((tmp_path / "whole" / "not-finite.json").read_text())
    order = Copying().epoch(0)
    assert [(entry["step"], entry["rows"], entry["loss"]) for entry in entries] == [
        (2, [order[1]], "nan"),
        (5, [order[4]], "nan"),
    ]
    assert all(entry["weights_not_finite"] == [] for entry in entries)
    losses = [line["loss"] for line in lines(tmp_path / "whole") if "loss" in line]
    assert [step for step, loss in enumerate(losses, start=1) if loss is None] == [2, 5]

    with pytest.raises(InputError, match=r"loss=nan.*at step 5.*skip 2 such steps or more with --skip-not-finite"):
        spoiled(tmp_path / "stopped", skip=1)


def test_a_run_that_learned_nothing_is_no_success(tmp_path):
    """All its steps were skipped, or its weights are no numbers after the last one. Nor is it after a resume."""

    def no_number(model):
        model.loss = lambda batch, loss=model.loss: {
            name: part._replace(total=part.total * float("nan")) for name, part in loss(batch).items()
        }
        return model

    def skipping():
        run(tmp_path / "skipping", model=no_number(MODELS["rnn"](0.0)), evaluate=scored(1.0), **options)

    options = dict(steps=3, evaluations=1, skip_not_finite=9)
    for _ in range(2):
        with pytest.raises(InputError, match=r"3 of 3 steps were skipped.*nothing was learned; see not-finite.json"):
            skipping()
    with pytest.raises(InputError, match=r"no evaluation gave a finite score: .* a lower --lr"):
        run(tmp_path / "diverged", evaluate=scored(math.nan, -math.inf), steps=2, evaluations=2)
    with pytest.raises(InputError, match=r"the trained weights are not finite numbers: .* a lower --lr"):
        run(tmp_path / "ruined", evaluate=ruin, steps=1, evaluations=1)


@pytest.mark.parametrize(
    ("losses", "options", "says"),
    [
        (
            (math.log(9), 4000.0),
            {},
            "nothing was learned: the lowest validation loss is 2.197, .* guess among 9 has",
        ),
        ((2.19, 4000.0), {}, None),
        ((2.5, 4000.0), {"warmup_steps": 4}, None),
        (
            (math.nan, 4000.0),
            {"warmup_steps": 4},
            "nothing was learned: the lowest validation loss is 4000, .* has 2.197",
        ),
    ],
)
def test_a_run_that_is_no_better_than_chance_says_so(losses, options, says, tmp_path, recwarn):
    run(tmp_path, evaluate=scored(*losses), **{"steps": 4, "evaluations": 2, "choices": 9} | options)
    said = [str(warning.message) for warning in recwarn]
    assert not said if says is None else re.search(says, *said)


@pytest.mark.parametrize(("losses", "worse"), [((0.5, 0.6, 0.7), True), ((0.5, 0.6, 0.4), False), ((0.5, 0.5), False)])
def test_a_trained_model_that_training_made_worse_is_said(losses, worse, tmp_path, recwarn):
    options = dict(evaluate=scored(*losses), evaluations=len(losses) - 1, steps=4, choices=9, starts_trained=True)
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, data=Copying({2: interrupt}), **options)
    run(tmp_path, **options)  # it does not evaluate the start again
    said = [str(warning.message) for warning in recwarn]
    assert not said if not worse else re.search(r"no evaluation is as good as .* --init names \(loss 0.5000\)", *said)


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("warmup_steps", 10**6, "--warmup-steps: the warm-up takes 1,000,000 steps, and the run .*: the learning rate"),
        ("evaluations", 10**6, "--evaluations 1000000: a run of .* steps has"),
        ("patience", 9, "--patience 9: no effect on a run of . evaluations"),
    ],
)
def test_a_run_in_minutes_that_was_too_short_for_a_flag_says_so(flag, value, says, tmp_path, recwarn):
    options = {"steps": None, "minutes": 0.002, "given": (flag,), "evaluate": lambda model: {"loss": 1.0}, flag: value}
    run(tmp_path, **options)
    assert re.search(says, " ".join(str(warning.message) for warning in recwarn))


def test_a_run_without_a_length_is_refused():
    with pytest.raises(InputError, match="steps or minutes"):
        LoopOptions(lr=0.1)


nan, inf = math.nan, math.inf


@pytest.mark.parametrize(
    ("losses", "patience", "end", "best"),
    [
        ((3.0, 2.0, 2.5, 2.0), 2, 8, 4),
        ((3.0, 3.5, 2.0, 2.5, 1.0, 1.5), 2, 12, 10),
        ((1.0, 2.0, 3.0), 2, 6, 2),
        # A score that is not finite is the worst.
        ((nan, 3.0, 2.0, nan, inf, 4.0), None, 12, 6),
        ((2.0, nan, -inf, 3.0, 3.0, 3.0), None, 12, 2),
    ],
)
def test_the_best_evaluation_and_patience_are_those_of_a_run_never_interrupted(losses, patience, end, best, tmp_path):
    options = dict(evaluations=6, patience=patience, unit="pairs")
    evaluate = scored(*losses)
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, data=Copying({5: interrupt}), evaluate=evaluate, **options)
    _, state = run(tmp_path, evaluate=evaluate, **options)
    assert (state.step, state.best_step) == (end, best)
    assert repr([evaluation["loss"] for evaluation in state.history]) == repr(list(losses))
    assert run(tmp_path, data=takes_no_step(), evaluate=scored(), **options)[1].step == end
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all("pairs_per_second" in line for line in steps if "gradient_norm" in line)


def test_a_run_whose_best_weights_are_lost_resumes_and_takes_the_next_best(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, data=Copying({5: interrupt}), evaluate=scored(1.0))
    shutil.rmtree(checkpoints / "evaluated-00000003")
    with pytest.warns(UserWarning, match="step 3, are lost; those of step 5 count as the best, until the next"):
        _, state = run(tmp_path, evaluate=scored(5.0, 6.0, 7.0))
    assert (state.step, state.best_step) == (12, 6)
    assert [entry["loss"] for entry in state.history] == [1.0, 5.0, 6.0, 7.0]
    # A finished run has no next evaluation: it keeps its last weights and takes no further step.
    shutil.rmtree(checkpoints / "evaluated-00000006")
    with pytest.warns(UserWarning, match="of step 6, are lost; those of step 12 count as the best$"):
        assert run(tmp_path, data=takes_no_step())[1].best_step == 12


def test_a_history_without_the_score_is_of_another_job(tmp_path):
    state = State(step=3, seconds=1.0, history=[{"step": 3, "seconds": 1.0}])
    with pytest.raises(InputError, match="has no 'loss': it is of another job"):
        require_scores(state, lambda evaluation: [-evaluation["loss"]], tmp_path)
