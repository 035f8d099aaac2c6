"""An id that a model does not know is an `InputError` that names it and the limit, at every door."""

import re

import pytest
import torch
from helpers_kinds import DECODERS, ENCODER_DECODERS, KINDS, batch_for, bert
from helpers_models import SOURCE_VOCAB, TARGET_VOCAB, fresh_gpt, tiny_rnn, tiny_transformer

from minitransformer import InputError, beam_search, greedy, kernels, sample, stream


def vocabulary(model):
    c = getattr(model.config, "encoder_config", lambda: model.config)()
    return c.vocab_size if hasattr(c, "vocab_size") else c.source_vocab_size


def refusal(argument, unknown, size):
    return pytest.raises(
        InputError, match=re.escape(f"{argument}: {unknown} is out of range: the model knows 0 to {size - 1}")
    )


NAMES = [name for name in KINDS if "own encoder" not in name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("below", [True, False], ids=["negative", "too large"])
def test_ids_that_a_model_reads(name, below):
    model, batch = KINDS[name](), batch_for(name)
    size = vocabulary(model)
    both = name in ENCODER_DECODERS
    argument = "source_ids" if both or "rnn" in name or "transformer" in name else "ids"
    ids = batch["source_ids" if both else "ids"]
    ids[1, 2] = unknown = -7 if below else size
    calls = [lambda: model.encode(ids), lambda: model.loss(batch)]
    calls += [lambda: model(ids, batch["target_ids"]) if both else model(ids)]
    if name in DECODERS:
        options = {"max_new_tokens": 3}
        calls += [
            lambda: model.start(ids, **options),
            lambda: greedy(model, ids, **options),
            lambda: sample(model, ids, **options),
            lambda: list(stream(model, ids, **options)),
            lambda: beam_search(model, ids, **options),
        ]
    for call in calls:
        with refusal(argument, unknown, size):
            call()


ODD = {
    "a list": [[5, 6], [7, 8]],
    "one row": torch.tensor([5, 6]),
    "a batch of batches": torch.tensor([[[5, 6]]]),
    "floats": torch.tensor([[5.0, 6.0]]),
    "bytes": torch.tensor([[5, 6]], dtype=torch.uint8),
    "truths": torch.tensor([[True, False]]),
}


@pytest.mark.parametrize("ids", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", [*NAMES, "classifier of one's own encoder"])
def test_what_is_no_tensor_of_ids_is_refused(name, ids, as_users_run_it):
    model, batch = KINDS[name](), batch_for(name)
    both = name in ENCODER_DECODERS
    calls = [lambda: model.encode(ids), lambda: model.loss(batch | {"source_ids" if both else "ids": ids})]
    calls += [lambda: model(ids, batch["target_ids"]) if both else model(ids)]
    if both:
        calls += [lambda: model(batch["source_ids"], ids), lambda: model.loss(batch | {"target_ids": ids})]
    if name in DECODERS:
        calls += [lambda: model.start(ids, max_new_tokens=3)]
        if isinstance(ids, torch.Tensor):
            calls += [lambda: greedy(model, ids, max_new_tokens=3), lambda: beam_search(model, ids, max_new_tokens=3)]
    for call in calls:
        with pytest.raises(InputError, match=r"ids must be a tensor \(batch, time\) of int64 or int32; it is "):
            call()


@pytest.mark.parametrize("unknown", [-1, -100, TARGET_VOCAB])
@pytest.mark.parametrize("build", [tiny_transformer, tiny_rnn, lambda: tiny_rnn(teacher_forcing=0.5).train()])
def test_ids_of_targets(build, unknown):
    model, batch = build(), batch_for("transformer")
    batch["target_ids"][0, 2] = unknown
    with refusal("target_ids", unknown, TARGET_VOCAB):
        model(batch["source_ids"], batch["target_ids"])
    with refusal("target_ids", unknown, TARGET_VOCAB):
        model.loss(batch)
    batch["target_ids"][0, 2:] = torch.tensor([4, unknown])  # the last one is a target, and no input
    with refusal("target_ids", unknown, TARGET_VOCAB):
        model.loss(batch)


@pytest.mark.parametrize("unknown", [-1, -100, 13])
def test_the_last_id_of_a_text_is_a_target_alone(unknown):
    ids = torch.tensor([[1, 2, unknown]])
    with refusal("ids", unknown, 13):
        fresh_gpt().loss({"ids": ids})


@pytest.mark.parametrize("unknown", [-1, 13])
def test_masked_tokens_to_restore(unknown):
    ids = torch.tensor([[5, 6, 7]])
    with refusal("targets", unknown, 13):
        bert().loss({"ids": ids, "targets": torch.tensor([[-100, 6, unknown]])})


def test_labels():
    for name in ("bert classifier", "classifier of one's own encoder"):
        batch = batch_for(name)
        for unknown in (-100, 3):
            with refusal("labels", unknown, 3):
                KINDS[name]().loss(batch | {"labels": torch.tensor([1, unknown])})

    ids = torch.tensor([[5, 6, 7]])
    with refusal("sentence_labels", 3, 2):
        bert().loss({"ids": ids, "targets": ids, "sentence_labels": torch.tensor([3])})


@pytest.mark.parametrize("unknown", [-1, 2])
def test_segments(unknown):
    ids, segment_ids = torch.tensor([[5, 6, 7]]), torch.tensor([[0, 1, unknown]])
    for call in (bert(), bert().encode, KINDS["bert classifier"]()):
        with refusal("segment_ids", unknown, 2):
            call(ids, None, segment_ids)
    with refusal("segment_ids", 1, 1):
        bert(num_segments=1, sentence_head=None)(ids, None, torch.ones_like(ids))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", DECODERS)
def test_a_step(name, fast):
    model = KINDS[name]()
    argument, size = ("target_ids", TARGET_VOCAB) if name in ENCODER_DECODERS else ("ids", 13)
    for unknown in (-1, size):
        _, state = model.start(torch.randint(5, 9, (2, 3)), max_new_tokens=4)
        with kernels.disabled(*([] if not fast else ["dropout"])), refusal(argument, unknown, size):
            model.step(torch.tensor([1, unknown]), state)


def test_every_id_that_a_model_knows_is_taken():
    for name in NAMES:
        model, batch = KINDS[name](), batch_for(name)
        batch["source_ids" if name in ENCODER_DECODERS else "ids"][0, :2] = torch.tensor([0, vocabulary(model) - 1])
        assert all(loss.total.isfinite() for loss in model.loss(batch).values())
    assert SOURCE_VOCAB != TARGET_VOCAB
