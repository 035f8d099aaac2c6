"""An id that a model does not know is an `InputError` on a GPU too, after which the GPU works on.

Torch's own assertion there ends every later operation of the program.
"""

import re

import pytest
import torch
from helpers_kinds import DECODERS, ENCODER_DECODERS, KINDS, batch_for, bert
from helpers_models import SOURCE_VOCAB, TARGET_VOCAB

from minitransformer import InputError, beam_search, greedy, kernels, sample, stream

NAMES = [name for name in KINDS if "own encoder" not in name]


def refused(argument, unknown, size, call):
    with pytest.raises(
        InputError, match=re.escape(f"{argument}: {unknown} is out of range: the model knows 0 to {size - 1}")
    ):
        call()
    assert torch.ones(3, device="cuda").sum().item() == 3


def on_gpu(name):
    return KINDS[name]().cuda(), {key: tensor.cuda() for key, tensor in batch_for(name).items()}


@pytest.mark.parametrize("below", [True, False], ids=["negative", "too large"])
@pytest.mark.parametrize("name", NAMES)
def test_ids_that_a_model_reads(name, below):
    model, batch = on_gpu(name)
    both = name in ENCODER_DECODERS
    source = both or "rnn" in name or "transformer" in name
    size = SOURCE_VOCAB if source else 13
    ids = batch["source_ids" if both else "ids"]
    ids[1, 2] = unknown = -7 if below else size
    calls = [lambda: model.encode(ids), lambda: model.loss(batch)]
    calls += [lambda: model(ids, batch["target_ids"]) if both else model(ids)]
    if name in DECODERS:
        calls += [lambda: model.start(ids, max_new_tokens=3)]
        calls += [lambda find=find: find(model, ids, max_new_tokens=3) for find in (greedy, sample, beam_search)]
        calls += [lambda: list(stream(model, ids, max_new_tokens=3))]
    for call in calls:
        refused("source_ids" if source else "ids", unknown, size, call)


@pytest.mark.parametrize("unknown", [-1, -100, TARGET_VOCAB])
@pytest.mark.parametrize("name", [name for name in ENCODER_DECODERS if "unmasked" not in name])
def test_ids_of_targets(name, unknown):
    model, batch = on_gpu(name)
    batch["target_ids"][0, 2] = unknown
    refused("target_ids", unknown, TARGET_VOCAB, lambda: model(batch["source_ids"], batch["target_ids"]))
    batch["target_ids"][0, 2:] = torch.tensor([4, unknown])  # the last one is a target, and no input
    refused("target_ids", unknown, TARGET_VOCAB, lambda: model.loss(batch))


@pytest.mark.parametrize("unknown", [-1, -100, 13])
def test_the_last_id_of_a_text_masked_tokens_segments_and_labels(unknown):
    model, batch = on_gpu("gpt")
    batch["ids"][1, -1] = unknown
    refused("ids", unknown, 13, lambda: model.loss(batch))
    model, batch = on_gpu("bert")
    ids = batch["ids"]
    if unknown != -100:
        targets = ids.clone()
        targets[0, 1] = unknown
        refused("targets", unknown, 13, lambda: model.loss({"ids": ids, "targets": targets}))
    segments = torch.zeros_like(ids)
    segments[0, 1] = unknown
    refused("segment_ids", unknown, 2, lambda: bert().cuda()(ids, None, segments))
    labels = torch.tensor([0, unknown]).cuda()
    refused("labels", unknown, 3, lambda: KINDS["bert classifier"]().cuda().loss({"ids": ids, "labels": labels}))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", DECODERS)
def test_a_step(name, fast):
    model, _ = on_gpu(name)
    argument, size = ("target_ids", TARGET_VOCAB) if name in ENCODER_DECODERS else ("ids", 13)
    for unknown in (-1, size):
        _, state = model.start(torch.randint(5, 9, (2, 3)).cuda(), max_new_tokens=4)
        with kernels.disabled(*([] if not fast else ["dropout"])):
            refused(argument, unknown, size, lambda: model.step(torch.tensor([1, unknown]).cuda(), state))  # noqa: B023


def test_a_step_can_be_captured_in_a_graph():
    """A look at the ids would wait, which a capture does not allow."""
    model, batch = on_gpu("gpt")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side), torch.no_grad():
        model(batch["ids"])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        logits = model(batch["ids"])
    graph.replay()
    torch.cuda.synchronize()
    with torch.no_grad():
        torch.testing.assert_close(logits, model(batch["ids"]))
