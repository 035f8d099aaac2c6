import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from minitransformer.models import Transformer, TransformerConfig
from train.engine.resuming import Checkpoints
from train.engine.state import State
from train.translate.averaging import average_evaluated

CONFIG = TransformerConfig(8, 8, d_model=4, num_heads=2, d_ff=4, num_encoder_layers=1, num_decoder_layers=1)


def evaluated(folder, scores):
    """A run whose evaluations had these scores, its model with the best weights, and all weights by step."""
    checkpoints, weights = Checkpoints(folder / "checkpoints"), {}
    for step in range(1, len(scores) + 1):
        torch.manual_seed(step)
        model = Transformer(CONFIG)
        weights[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        checkpoints.save_weights(model, step)
    best = 1 + scores.index(max(scores))
    checkpoints.load_weights(model, best)
    history = [{"step": step, "seconds": 0.0, "bleu": score} for step, score in enumerate(scores, start=1)]
    return model, State(step=len(scores), best_step=best, history=history), weights


def averaged(model, folder, state, count, score_of_mean, of="best"):
    functions = dict(evaluate=lambda _: {"bleu": score_of_mean}, score=lambda r: (r["bleu"],))
    return average_evaluated(model, folder, state, count=count, of=of, **functions)


@pytest.mark.parametrize(("of", "count", "steps"), [("best", 3, [2, 3, 4]), ("last", 2, [3, 4])])
def test_the_mean_of_evaluations_replaces_the_best_if_it_is_better(of, count, steps, tmp_path):
    model, state, weights = evaluated(tmp_path, [1.0, 4.0, 3.0, 2.0])
    assert averaged(model, tmp_path, state, count, 4.5, of) == steps == state.history[-1]["averaged"]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, sum(weights[step][name] for step in steps) / count)


@pytest.mark.parametrize("score", [0.5, 9.0])
def test_what_the_mean_scored_is_the_last_line_of_the_metrics_once(tmp_path, score):
    model, state, _ = evaluated(tmp_path, [1.0, 2.0, 3.0])
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "validation_bleu": 3.0}\n')
    for _ in range(2):  # again, as a run does that was killed before its end
        averaged(model, tmp_path, replace(state, history=state.history[:3]), 2, score)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[1:] == [{"step": 3, "tokens": 0, "seconds": 0.0, "averaged": [3, 2], "validation_bleu": score}]


def test_a_mean_that_is_no_better_leaves_the_best_weights(tmp_path):
    model, state, weights = evaluated(tmp_path, [1.0, 4.0, 3.0])
    assert averaged(model, tmp_path, state, 2, 4.0) == []
    assert all(torch.equal(tensor, weights[2][name]) for name, tensor in model.state_dict().items())
    assert len(state.history) == 3


def test_damaged_weights_are_left_out_of_the_mean(tmp_path):
    model, state, weights = evaluated(tmp_path, [1.0, 4.0, 3.0, 2.0])
    (tmp_path / "checkpoints" / "evaluated-00000003" / "model.safetensors").write_bytes(b"torn")
    with pytest.warns(UserWarning, match=r"evaluated-00000003.* is damaged.*the mean is of the other evaluations"):
        assert averaged(model, tmp_path, state, 3, 4.5) == [2, 4]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, sum(weights[step][name] for step in (2, 4)) / 2)


def test_without_two_undamaged_weights_there_is_no_mean_which_is_said(tmp_path):
    model, state, weights = evaluated(tmp_path, [1.0, 4.0, 3.0, 2.0])
    Checkpoints(tmp_path / "checkpoints").remove_evaluated(kept=[2])
    with pytest.warns(UserWarning, match=r"evaluated-00000003.* there is no mean, and the best one is kept"):
        assert averaged(model, tmp_path, state, 2, 4.5) == []
    assert all(torch.equal(tensor, weights[2][name]) for name, tensor in model.state_dict().items())


def test_shared_weights_stay_shared(tmp_path):
    model, state, _ = evaluated(tmp_path, [1.0, 2.0])
    averaged(model, tmp_path, state, 2, 3.0)
    assert model.output.weight is model.target_embedding.weight
    names = load_file(model.save(tmp_path / "saved") / "model.safetensors").keys()
    assert sum("embedding" in name or "output" in name for name in names) == 2
