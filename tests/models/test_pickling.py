"""`torch.save` of a whole model, `copy.deepcopy`, joblib and spawned workers pickle it."""

import copy
import dataclasses
import io
import pickle

import pytest
import torch
from helpers_kinds import ENCODER_DECODERS, KINDS, batch_for
from helpers_models import fresh_gpt

from minitransformer import greedy


def through_torch(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), through_torch])
@pytest.mark.parametrize("name", KINDS)
def test_a_copied_model_computes_the_same(name, again):
    model, batch = KINDS[name](), batch_for(name)
    inputs = (batch["source_ids"], batch["target_ids"]) if name in ENCODER_DECODERS else (batch["ids"],)
    expected, copied = model(*inputs), again(model)
    assert torch.equal(copied(*inputs), expected)
    assert copied.num_parameters() == model.num_parameters()
    assert again(model.config) == model.config == dataclasses.replace(model.config)


def test_a_model_that_has_decoded_is_copied():
    model, ids = fresh_gpt(), torch.tensor([[1, 2, 3]])
    expected = greedy(model, ids, max_new_tokens=4)
    assert torch.equal(greedy(pickle.loads(pickle.dumps(model)), ids, max_new_tokens=4), expected)
