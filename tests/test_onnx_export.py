"""ONNX files of encoders and classifiers, run by onnxruntime."""

import sys

import onnxruntime
import pytest
import torch
from helpers_bert import nudged
from helpers_checkpoints import refusal
from helpers_hub import ours_of
from helpers_models import tiny_rnn

from minitransformer import SequenceClassifier

# Checks of shapes compare sizes. Compared during an export, a free size would become the size of the example.
pytestmark = pytest.mark.usefixtures("as_users_run_it")


def computed(path, ids, valid, segments):
    """The first output of the file at `path`."""
    session = onnxruntime.InferenceSession(path)
    given = {"input_ids": ids, "attention_mask": valid.long(), "token_type_ids": segments}
    wanted = [each.name for each in session.get_inputs()]
    return torch.from_numpy(session.run(None, {name: given[name].numpy() for name in wanted})[0])


def assert_same_in_onnxruntime(model, path, *, segments):
    """In batches of other sizes than at the export, padded unevenly and on either side, and with an empty row."""
    for batch, time in ((1, 1), (3, 7), (5, 4)):
        ids = torch.randint(1, 9, (batch, time))
        kind = torch.randint(2, ids.shape) if segments else torch.zeros_like(ids)
        counts = torch.tensor([7, 4, 1, 0, 2])[:batch, None]
        for valid in (torch.arange(time) < counts, torch.arange(time) >= time - counts):
            mine = model(ids, valid, kind) if segments else model(ids, valid)
            torch.testing.assert_close(computed(path, ids, valid, kind), mine, rtol=0, atol=1e-5)


def slow(*values):  # an export takes seconds
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("case", [slow("RoBERTa of one layer"), slow("BERT"), slow("ALBERT of two groups")])
@torch.no_grad()
def test_onnxruntime_computes_the_states_of_an_encoder(case, tmp_path):
    model = ours_of(case).train()
    model.to_onnx(tmp_path / "model.onnx")
    assert model.training
    assert_same_in_onnxruntime(model.eval(), tmp_path / "model.onnx", segments="RoBERTa" not in case)


@pytest.mark.parametrize(
    ("case", "pooling"),
    [
        ("GPT-2", "max"),
        ("BERT", "first"),
        slow("RoBERTa", "mean"),
        slow("ALBERT", "attention"),
        slow("Qwen3", "last"),
    ],
)
@torch.no_grad()
def test_onnxruntime_computes_the_logits_of_a_classifier(case, pooling, tmp_path):
    model = nudged(SequenceClassifier(ours_of(case), 3, pooling=pooling)).eval()
    model.to_onnx(tmp_path / "model.onnx")
    assert_same_in_onnxruntime(model, tmp_path / "model.onnx", segments=case in ("BERT", "ALBERT"))


@pytest.mark.slow
def test_weights_that_layers_share_are_written_once(tmp_path):
    model = ours_of("ALBERT", d_model=96, d_ff=384, num_heads=3, num_layers=8)
    file = model.to_onnx(tmp_path / "model.onnx")
    assert file.stat().st_size < 2 * sum(parameter.nbytes for parameter in model.parameters())


def test_what_has_no_onnx_file_is_refused_before_one_is_written(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    assert "the weights are torch.bfloat16" in refusal(ours_of("BERT").bfloat16().to_onnx, path)
    classifier = SequenceClassifier(tiny_rnn(), 2)
    assert "a classifier with a RNNSeq2Seq has no ONNX file" in refusal(classifier.to_onnx, path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "pip install 'minitransformer[onnx]'" in refusal(ours_of("BERT").to_onnx, path)
    assert not path.exists()
