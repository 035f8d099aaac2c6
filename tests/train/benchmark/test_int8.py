import torch
from helpers_models import fresh_gpt

from train.benchmark.int8 import first_difference


def test_the_first_token_that_differs_is_found():
    model, other, prompt = fresh_gpt(), fresh_gpt(), torch.tensor([[3, 1]])
    assert first_difference(model, model, prompt, 5) is None
    with torch.no_grad():
        other.output.weight.neg_()
    assert first_difference(model, other, prompt, 5) == 1
