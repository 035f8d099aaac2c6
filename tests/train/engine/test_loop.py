import io
import json
import math
import os
import shutil
import signal

import pytest
import torch
from rich.console import Console

from minitransformer import InputError, RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig
from minitransformer.optim import adamw
from train.engine.data_parallel import Replica
from train.engine.loop import LoopOptions, accumulate_gradients, train
from train.engine.resuming import Checkpoints
from train.engine.signals import TrainingInterrupted
from train.engine.state import State, require_scores

SIZES = dict(source_vocab_size=9, target_vocab_size=9, d_model=8, max_length=12, dropout=0.1)
MODELS = {
    "transformer": lambda: Transformer(
        TransformerConfig(**SIZES, num_heads=2, d_ff=16, num_encoder_layers=1, num_decoder_layers=1)
    ),
    "rnn": lambda: RNNSeq2Seq(RNNConfig(**SIZES, hidden_size=8, attention="additive", bidirectional=True)),
    "rnn-coin": lambda: RNNSeq2Seq(RNNConfig(**SIZES, hidden_size=8, teacher_forcing=0.5)),
}


class Copying:
    """Twenty rows of uneven length whose target is their source; `at_batch` runs before the batch of that number."""

    def __init__(self, at_batch=None):
        generator = torch.Generator().manual_seed(1)
        lengths = torch.randint(1, 8, (20,), generator=generator)
        self.rows = [torch.randint(4, 9, (n,), generator=generator) for n in lengths.tolist()]
        self.at_batch, self.given = at_batch or {}, 0

    def epoch(self, number):
        order = torch.randperm(20, generator=torch.Generator().manual_seed(number)).tolist()
        return [order[i : i + 4] for i in range(0, 20, 4)]

    def batch(self, rows):
        self.given += 1
        self.at_batch.get(self.given, lambda: None)()
        chosen = [self.rows[row] for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        source = pad(chosen, batch_first=True)
        target = [torch.cat([torch.tensor([2]), row, torch.tensor([3])]) for row in chosen]
        return {"source_ids": source, "source_valid": source != 0, "target_ids": pad(target, batch_first=True)}


def run(folder, kind, *, data=None, steps=12, **options):
    torch.manual_seed(0)
    model = MODELS[kind]()
    data = data or Copying()
    held_out = Copying().batch([0, 1, 2])

    def evaluate(model):
        model.eval()
        with torch.no_grad():
            return {"loss": model.loss(held_out)["lm"].total.item()}

    options = LoopOptions(lr=0.01, steps=steps, warmup_steps=2, evaluations=4, **options)
    state = train(
        model, adamw(model, lr=0.01), data, options, folder, evaluate=evaluate, score=lambda r: [-r["loss"]],
        console=quiet(),
    )  # fmt: skip
    return model, state


def quiet():
    return Console(file=io.StringIO())


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def lines(folder):
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in metrics]
    assert all("seconds" in line for line in metrics)
    return timeless


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_and_resumed_run_ends_bit_equal(tmp_path, kind, accumulate):
    whole, whole_state = run(tmp_path / "whole", kind, accumulate=accumulate)
    stops = {4 * accumulate: interrupt, 7 * accumulate: interrupt}
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "cut", kind, data=Copying(stops), accumulate=accumulate)
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "cut", kind, data=Copying({3: interrupt}), accumulate=accumulate)
    resumed, resumed_state = run(tmp_path / "cut", kind, accumulate=accumulate)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert lines(tmp_path / "whole") == lines(tmp_path / "cut")
    assert (resumed_state.step, resumed_state.tokens) == (whole_state.step, whole_state.tokens)


def test_the_last_checkpoint_is_of_the_weights_alone_and_nothing_goes_on_from_it(tmp_path):
    steps = {}

    def note_what_was_written():
        for path in (tmp_path / "checkpoints").glob("step-*"):
            steps[int(path.name[5:])] = {file.stem for file in path.glob("*.safetensors")}

    model, state = run(tmp_path, "transformer", data=Copying({8: note_what_was_written}), checkpoint_seconds=0.0)
    assert steps[7] == {"model", "optimizer"}
    note_what_was_written()
    assert steps[12] == {"model"}

    again, same = run(tmp_path, "transformer", data=Copying({1: lambda: pytest.fail("it takes another step")}))
    assert same == state
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_run_killed_after_its_checkpoint_repeats_the_lost_steps_once(tmp_path):
    run(tmp_path / "whole", "transformer")

    def die():
        raise MemoryError

    with pytest.raises(MemoryError):
        run(tmp_path / "cut", "transformer", data=Copying({8: die}), checkpoint_seconds=0.0)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss": 1.0}\n{"step": 9, "lo')  # what a kill may leave behind
    run(tmp_path / "cut", "transformer")
    assert lines(tmp_path / "whole") == lines(tmp_path / "cut")


def test_sigterm_stops_a_run_like_ctrl_c_however_often_it_comes(tmp_path):
    def terminate():
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(TrainingInterrupted) as raised:
        run(tmp_path, "transformer", data=Copying({4: terminate}))
    assert raised.value.number == signal.SIGTERM
    assert (tmp_path / "checkpoints" / "step-00000004").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("moment", ["save", "save_weights"])
def test_a_signal_in_the_last_writes_is_not_lost_and_all_is_saved(moment, tmp_path, monkeypatch):
    whole, _ = run(tmp_path / "whole", "transformer")
    write, calls = getattr(Checkpoints, moment), []

    def interrupted(self, model, *more):
        write(self, model, *more)
        if more[-1] == 12 or (moment == "save" and more[-1]["step"] == 12):
            calls.append(interrupt())

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        patch.setattr(Checkpoints, moment, interrupted)
        run(tmp_path / "cut", "transformer")
    assert len(calls) == 1
    resumed, state = run(tmp_path / "cut", "transformer", data=Copying({1: lambda: pytest.fail("trains again")}))
    assert state.step == 12
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_a_run_killed_between_its_best_weights_and_a_checkpoint_ends_as_one_never_killed(tmp_path, monkeypatch):
    whole, whole_state = run(tmp_path / "whole", "transformer")

    def die(self, *_):
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(Checkpoints, "save", die)
        run(tmp_path / "cut", "transformer")
    left = [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()]
    assert "best-00000003" in left
    assert not [name for name in left if name.startswith("step-")]
    resumed, state = run(tmp_path / "cut", "transformer")
    assert (state.best_score, state.best_step) == (whole_state.best_score, whole_state.best_step)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_accumulated_gradients_equal_those_of_one_batch(kind):
    model = MODELS[kind]().eval()
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
    model = MODELS["transformer"]().eval()
    batch = Copying().batch([0, 1])
    mean, count = accumulate_gradients(Replica(model), [batch], LoopOptions(lr=1.0, steps=1))
    total, _ = accumulate_gradients(Replica(model), [batch], LoopOptions(lr=1.0, steps=1, loss_reduction="sum"))
    assert total == pytest.approx(mean * count, rel=1e-5)


def test_the_model_is_left_with_its_best_weights(tmp_path):
    scores = iter([1.0, 3.0, 2.0, 0.0])
    seen = []

    def evaluate(model):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"score": next(scores)}

    model = MODELS["rnn"]()
    state = train(
        model,
        adamw(model, lr=0.1),
        Copying(),
        LoopOptions(lr=0.1, steps=8, warmup_steps=0, evaluations=4),
        tmp_path,
        evaluate=evaluate,
        score=lambda result: [result["score"]],
        console=quiet(),
    )
    assert state.best_step == 4
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(seen[1]["output.weight"], seen[3]["output.weight"])
    assert not model.training


def test_training_in_bfloat16_keeps_float32_weights(tmp_path):
    model, state = run(tmp_path, "transformer", steps=3, autocast=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert state.step == 3


def test_minutes_end_a_run_and_drive_its_schedule(tmp_path):
    _, state = run(tmp_path, "transformer", steps=None, minutes=0.005)
    assert 0.3 <= state.seconds < 3
    rates = [line["lr"] for line in lines(tmp_path) if "lr" in line]
    assert rates[-1] < 0.2 * max(rates)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path):
    def ruin(model):
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        return {"score": 0.0}

    model = MODELS["transformer"]()
    with pytest.raises(InputError, match=r"loss=nan.*step 3"):
        train(
            model, adamw(model, lr=0.1), Copying(), LoopOptions(lr=0.1, steps=4, evaluations=2), tmp_path,
            evaluate=ruin, score=lambda result: [result["score"]], console=quiet(),
        )  # fmt: skip


def spoiled(folder, *, skip):
    """A run whose loss is no number at its second and fifth batch."""
    torch.manual_seed(0)
    model, data = MODELS["transformer"](), Copying()
    finite = model.loss

    def loss(batch):
        factor = float("nan") if data.given in (2, 5) else 1.0
        return {name: part._replace(total=part.total * factor) for name, part in finite(batch).items()}

    model.loss = loss
    options = LoopOptions(lr=0.01, steps=8, evaluations=2, skip_not_finite=skip, checkpoint_seconds=0.0)
    return train(
        model, adamw(model, lr=0.01), data, options, folder,
        evaluate=lambda model: {"score": 1.0}, score=lambda result: [result["score"]], console=quiet(),
    )  # fmt: skip


def test_steps_that_are_not_finite_are_left_out_up_to_a_number(tmp_path):
    state = spoiled(tmp_path / "whole", skip=2)
    assert (state.step, state.skipped) == (8, 2)
    entries = json.loads((tmp_path / "whole" / "not-finite.json").read_text())
    order = Copying().epoch(0)
    assert [(entry["step"], entry["rows"], entry["loss"]) for entry in entries] == [
        (2, [order[1]], "nan"),
        (5, [order[4]], "nan"),
    ]
    assert all(entry["weights_not_finite"] == [] and entry["loss_scale"] == 1.0 for entry in entries)
    losses = [line["loss"] for line in lines(tmp_path / "whole") if "loss" in line]
    assert [step for step, loss in enumerate(losses, start=1) if loss is None] == [2, 5]

    with pytest.raises(InputError, match=r"loss=nan.*at step 5.*skip 2 such steps or more with --skip-not-finite"):
        spoiled(tmp_path / "stopped", skip=1)


def test_a_run_without_a_length_is_refused():
    with pytest.raises(InputError, match="steps or minutes"):
        LoopOptions(lr=0.1)


class Patience:
    """A model whose evaluations have these losses, whatever it learns."""

    def __init__(self, *losses):
        self.losses = iter(losses)

    def run(self, folder, *, patience, steps=12, data=None):
        torch.manual_seed(0)
        model = MODELS["transformer"]()
        options = LoopOptions(lr=0.01, steps=steps, evaluations=6, patience=patience, unit="pairs")
        return train(
            model, adamw(model, lr=0.01), data or Copying(), options, folder,
            evaluate=lambda _: {"loss": next(self.losses)}, score=lambda r: [-r["loss"]], console=quiet(),
        )  # fmt: skip


def test_training_stops_when_evaluations_no_longer_improve(tmp_path):
    state = Patience(3.0, 2.0, 2.5, 2.0, 1.0, 0.5).run(tmp_path, patience=2)
    assert (state.step, state.best_step) == (8, 4)
    assert [evaluation["loss"] for evaluation in state.history] == [3.0, 2.0, 2.5, 2.0]
    # Stopped for good: there is nothing to go on with.
    assert Patience().run(tmp_path, patience=2) == state


def test_a_better_evaluation_gives_new_patience(tmp_path):
    assert Patience(3.0, 3.5, 2.0, 2.5, 1.0, 1.5).run(tmp_path, patience=2).step == 12


def test_patience_survives_an_interruption(tmp_path):
    with pytest.raises(TrainingInterrupted):
        Patience(1.0, 2.0).run(tmp_path, patience=2, data=Copying(at_batch={5: interrupt}))
    assert Patience(3.0).run(tmp_path, patience=2).step == 6


def test_a_run_whose_best_weights_are_lost_goes_on_and_takes_the_next_best(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(TrainingInterrupted):
        Patience(1.0, 2.0).run(tmp_path, patience=None, data=Copying(at_batch={5: interrupt}))
    shutil.rmtree(checkpoints / "best-00000002")
    with pytest.warns(UserWarning, match="step 2, are lost; those of step 5 count as the best, until the next"):
        state = Patience(5.0, 6.0, 7.0, 8.0).run(tmp_path, patience=None)
    assert (state.step, state.best_step) == (12, 6)
    assert [entry["loss"] for entry in state.history] == [1.0, 2.0, 5.0, 6.0, 7.0, 8.0]
    # A finished run has no next evaluation: it keeps its last weights and takes no further step.
    shutil.rmtree(checkpoints / "best-00000006")
    stuck = Copying(at_batch={1: lambda: pytest.fail("it takes another step")})
    with pytest.warns(UserWarning, match="of step 6, are lost; those of step 12 count as the best$"):
        assert Patience().run(tmp_path, patience=None, data=stuck).best_step == 12


def test_a_history_without_the_score_is_of_another_job(tmp_path):
    state = State(step=3, seconds=1.0, history=[{"step": 3, "seconds": 1.0}])
    with pytest.raises(InputError, match="has no 'loss': it is of another job"):
        require_scores(state, lambda evaluation: [-evaluation["loss"]], tmp_path)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ((math.nan, 3.0, 2.0, math.nan, math.inf, 4.0), 6),
        ((2.0, math.nan, -math.inf, 3.0, 3.0, 3.0), 2),
        ((math.nan, math.nan, math.nan, math.nan, math.nan, math.nan), 2),
    ],
)
def test_a_validation_score_that_is_not_finite_is_the_worst(losses, best, tmp_path):
    first, more = Patience(*losses[:3]), Patience(*losses[3:])
    with pytest.raises(TrainingInterrupted):
        first.run(tmp_path, patience=None, data=Copying(at_batch={7: interrupt}))
    assert more.run(tmp_path, patience=None).best_step == best


def test_targets_are_called_what_they_are(tmp_path):
    Patience(1.0, 2.0).run(tmp_path, patience=1)
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all("pairs_per_second" in line for line in steps if "gradient_norm" in line)
