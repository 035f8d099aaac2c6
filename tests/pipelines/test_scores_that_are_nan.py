"""A model whose weights are finite, but so large that its scores are NaN, gives nothing."""

import pytest
import torch
from helpers_pipelines import pipeline

from minitransformer import Classifier, Completer, InputError, MaskFiller, Translator

CALLS = {
    "completer, sampling": (Completer, lambda one: one("the", max_new_tokens=3)),
    "completer, greedy": (Completer, lambda one: one("the", max_new_tokens=3, temperature=0.0)),
    "completer, streaming": (Completer, lambda one: list(one.stream("the", max_new_tokens=3))),
    "translator": (Translator, lambda one: one("the dog")),
    "translator, with beams": (Translator, lambda one: one("the dog", beam_size=3)),
    "translator, n best": (Translator, lambda one: one.n_best("the dog", n_best=2, beam_size=3)),
    "classifier": (Classifier, lambda one: one("the dog")),
    "classifier, explained": (Classifier, lambda one: one.explain("the dog")),
    "mask filler": (MaskFiller, lambda one: one("the [MASK]")),
}


@pytest.mark.parametrize("call", CALLS)
def test_scores_that_are_nan_are_refused(call):
    kind, use = CALLS[call]
    one = pipeline(kind)
    use(one)
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter.mul_(1e30)
    assert all(parameter.isfinite().all() for parameter in one.model.parameters())
    with pytest.raises(InputError, match=r"the model.s scores are NaN: .* take an earlier checkpoint"):
        use(one)
