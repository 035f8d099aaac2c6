"""Documents packed into one row compute what they compute in rows of their own."""

from functools import partial

import pytest
import torch
from helpers_kinds import KINDS, batch_for
from helpers_models import assert_close, nudged, tiny_rnn, tiny_transformer
from helpers_pieces import few_examples
from hypothesis import given
from hypothesis import strategies as st

from minitransformer import (
    BERT,
    GPT,
    BERTConfig,
    GPTConfig,
    InputError,
    SequenceClassifier,
    beam_search,
    greedy,
    kernels,
)
from minitransformer.positions import token_positions

SIZES = {"vocab_size": 30, "d_model": 16, "num_heads": 4, "num_layers": 2, "dropout": 0.0}
GPTS = [
    {"positions": "learned"},
    {"positions": "rotary", "num_kv_heads": 2, "norm": "rmsnorm", "qk_norm": True, "activation": "swiglu"},
    {"positions": "alibi"},
    {"positions": "none"},
]
BERTS = [
    {},
    {"positions": "rotary", "pre_norm": True},
    {"position_offset": 2, "num_segments": 1, "pooler": False, "sentence_head": None},
]
LENGTHS = [[4, 3, 1, 6], [9, 2], [1, 1, 5]]


def gpt(**options):
    torch.manual_seed(0)
    return nudged(GPT(GPTConfig(**SIZES, max_length=10, eos_id=0, **options))).eval()


def bert(**options):
    torch.manual_seed(0)
    return nudged(BERT(BERTConfig(**SIZES, max_length=10, pad_id=0, cls_id=2, sep_id=3, mask_id=4, **options))).eval()


def packed(lengths, width=17):
    """Documents, and one padded row for each list of their lengths: ids, valid, document_ids. Their numbers fall."""
    documents = [[torch.randint(5, 30, (1, length)) for length in row] for row in lengths]
    ids, document_ids = torch.full((len(lengths), width), 6), torch.full((len(lengths), width), 50)
    valid = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, several in enumerate(documents):
        length = sum(one.shape[1] for one in several)
        start = row  # some rows are padded on the left too
        ids[row, start : start + length] = torch.cat(several, dim=1)
        numbers = [torch.full((one.shape[1],), 9 - place) for place, one in enumerate(several)]
        document_ids[row, start : start + length] = torch.cat(numbers)
        valid[row, start : start + length] = True
    return documents, ids, valid, document_ids


def of_each(documents, document_ids, states):
    for row, several in enumerate(documents):
        for place, one in enumerate(several):
            yield one, states[row][document_ids[row] == 9 - place]


@pytest.fixture(params=["kernels", "formulas"])
def computed(request):
    if request.param == "kernels":
        yield
    else:
        with kernels.disabled():
            yield


every_kind = pytest.mark.parametrize(
    ("build", "options"), [*((gpt, options) for options in GPTS), *((bert, options) for options in BERTS)]
)


@every_kind
def test_every_document_gets_what_it_gets_alone(build, options, computed):
    model = build(**options)
    documents, ids, valid, document_ids = packed(LENGTHS)
    together = model(ids, valid, document_ids=document_ids)
    for one, states in of_each(documents, document_ids, together):
        assert_close(states, model(one)[0])


def test_tokens_of_a_document_need_not_be_neighbours():
    model = gpt(positions="rotary")
    ids = torch.randint(5, 30, (1, 8))
    document_ids = torch.tensor([[0, 1, 0, 1, 1, 0, 0, 1]])
    together = model(ids, document_ids=document_ids)
    for number in (0, 1):
        chosen = document_ids[0] == number
        assert_close(together[:, chosen], model(ids[:, chosen]))


@pytest.mark.parametrize(("build", "options"), [(gpt, GPTS[0]), (gpt, GPTS[1]), (gpt, GPTS[2]), (bert, {})])
def test_nor_need_they_be_for_the_loss(build, options):
    """Document 7 comes again after others; 5 is a document of one token; 9 has padding in it."""
    document_ids = torch.tensor([[7, 7, 9, 7, 7, 9, 9, 5], [3, 3, 1, 1, 3, 1, 3, 3]])
    valid = torch.tensor([[1, 1, 1, 1, 1, 0, 1, 1], [0, 1, 1, 1, 1, 1, 1, 0]]) > 0
    ids = torch.randint(5, 30, (2, 8))
    targets = torch.where(valid, ids, -100)
    model, alone = build(**options).double(), []
    for row in range(2):
        for number in document_ids[row].unique():
            chosen = (document_ids[row] == number) & valid[row]
            alone.append({"ids": ids[row : row + 1, chosen], "targets": targets[row : row + 1, chosen]})
    found = loss_and_gradients(model, [{"ids": ids, "valid": valid, "document_ids": document_ids, "targets": targets}])
    total, count, gradients = loss_and_gradients(model, alone)
    assert found[1] == count > 0
    assert_close(found[0], total)
    for ours, theirs in zip(found[2], gradients, strict=True):
        assert_close(ours, theirs, 1e-10)


def test_padding_between_tokens_changes_no_loss():
    model, ids = gpt(), torch.randint(5, 30, (1, 6))
    valid = torch.tensor([[True, False, True, True, False, True]])
    [(total, count)], [expected] = (
        model.loss({"ids": ids, "valid": valid}).values(),
        model.loss({"ids": ids[valid][None]}).values(),
    )
    assert count == expected.count == 3
    assert_close(total, expected.total)


def loss_and_gradients(model, batches):
    model.zero_grad()
    total, count = 0.0, 0
    for batch in batches:
        [(total_of_one, count_of_one)] = model.loss(batch).values()
        assert next(iter(model.count_targets(batch).values())) == count_of_one
        total, count = total + total_of_one, count + count_of_one
    total.backward()
    return total, count, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@every_kind
def test_the_loss_of_every_document_is_what_it_is_alone(build, options, computed):
    def batch(ids):
        return {"ids": ids} if build is gpt else {"ids": ids, "targets": torch.where(ids % 3 > 0, ids, -100)}

    model = build(**options).double()  # in float32 rounding alone moves large gradients by more than 1e-5
    documents, ids, valid, document_ids = packed(LENGTHS)
    together = batch(ids) | {"valid": valid, "document_ids": document_ids}
    total, count, gradients = loss_and_gradients(model, [together])
    alone = loss_and_gradients(model, [batch(one) for several in documents for one in several])
    assert count == alone[1] > 0
    assert_close(total, alone[0])
    for ours, theirs in zip(gradients, alone[2], strict=True):
        assert_close(ours, theirs, 1e-10)


@pytest.mark.parametrize("build", [gpt, bert])
def test_learned_positions_bound_the_document_not_the_row(build):
    model = build()
    ids = torch.randint(5, 30, (1, 21))
    document_ids = torch.tensor([[0] * 10 + [1] * 10 + [2]])
    assert model(ids, document_ids=document_ids).shape[1] == 21
    document_ids[0, 10] = 0
    with pytest.raises(InputError, match="11 tokens are more than the model's max_length=10"):
        model(ids, document_ids=document_ids)
    assert len(model(ids[:0], document_ids=document_ids[:0])) == 0


def test_a_row_of_several_documents_has_no_label_of_one_pair():
    ids = torch.randint(5, 30, (2, 6))
    batch = {"ids": ids, "targets": ids, "document_ids": ids % 2, "sentence_labels": torch.tensor([0, 1])}
    with pytest.raises(InputError, match="sentence_labels"):
        bert().loss(batch)


@given(st.integers(0, 9), st.integers(0, 12), st.integers(1, 4))
@few_examples
def test_positions_count_the_real_tokens_of_the_document_before(seed, time, number):
    torch.manual_seed(seed)
    document_ids, valid = torch.randint(-number, number, (3, time)), torch.rand(3, time) < 0.7
    positions = token_positions(valid, document_ids)
    for ids, real, found in zip(document_ids, valid, positions, strict=True):
        assert found.tolist() == [int((real[:t] & (ids[:t] == ids[t])).sum()) for t in range(time)]


@pytest.mark.parametrize("build", [gpt, bert, tiny_transformer, tiny_rnn, lambda: SequenceClassifier(bert(), 2)])
def test_shapes_that_would_be_broadcast_are_refused_by_every_door(build, as_users_run_it):
    model, ids, one_row = build(), torch.full((2, 6), 7), torch.ones(1, 6, dtype=torch.long)
    calls = [model.encode, *([model] if build in (gpt, bert) else [])]
    if hasattr(model, "start"):
        calls += [partial(decode, model, max_new_tokens=2) for decode in (greedy, beam_search)]
        calls += [lambda ids, valid: model.start(ids, valid, max_new_tokens=2)]
        calls += [lambda ids, valid: greedy(model, ids, valid, max_new_tokens=2, repetition_penalty=3.0)]
    for call in calls:
        with pytest.raises(InputError, match="valid of shape"):
            call(ids, one_row > 0)
        for integers in (torch.ones_like(ids), torch.zeros_like(ids)):
            with pytest.raises(InputError, match=r"valid must be bool, .* it is torch.int64: valid.bool\(\)"):
                call(ids, integers)
    if build in (gpt, bert):
        with pytest.raises(InputError, match=r"document_ids of shape \(1, 6\) does not fit ids of shape \(2, 6\)"):
            model(ids, document_ids=one_row)
    if build is bert:
        with pytest.raises(InputError, match="segment_ids of shape"):
            model(ids, None, one_row)


@pytest.mark.parametrize("name", list(KINDS))
def test_the_tensors_of_a_batch_that_do_not_fit_one_another_are_refused(name, as_users_run_it):
    model, batch = KINDS[name](), batch_for(name)
    inputs = "source_ids" if "source_ids" in batch else "ids"
    assert model.loss(batch)
    for key in set(batch) - {inputs}:
        with pytest.raises(InputError, match=f"{key} of shape"):
            model.loss(batch | {key: torch.cat([batch[key]] * 2)})
        if key == "labels":
            for other in (batch[key].float(), batch[key] > 0, batch[key].tolist()):
                with pytest.raises(InputError, match="labels must be integers in a tensor"):
                    model.loss(batch | {key: other})
        if key in ("valid", "source_valid", "document_ids"):
            other = batch[key].long() if batch[key].dtype == torch.bool else batch[key] > 0
            with pytest.raises(InputError, match=f"{key} must be"):
                model.loss(batch | {key: other})
        if key in ("targets", "valid"):
            with pytest.raises(InputError, match=f"{key} of shape"):
                model.loss(batch | {key: batch[key][:, :-1]})
    if hasattr(model, "start"):
        _, state = model.start(batch[inputs], max_new_tokens=3)
        with pytest.raises(InputError, match=r"ids of shape \(1,\) does not fit 2 rows"):
            model.step(torch.tensor([1]), state)


def test_labels_of_few_bits_are_counted_in_full():
    ids = torch.randint(5, 30, (300, 2))
    labels = torch.zeros(300, dtype=torch.int8)
    assert SequenceClassifier(bert(), 2).loss({"ids": ids, "labels": labels})["label"].count == 300
    assert bert().loss({"ids": ids, "targets": ids, "sentence_labels": labels})["nsp"].count == 300


def test_gradients_of_single_packed_rows_are_those_of_torch_func():
    model = gpt(positions="rotary")
    _, ids, valid, document_ids = packed(LENGTHS)

    def total(parameters, *row):
        options = {"document_ids": row[2][None]}
        return torch.func.functional_call(model, parameters, (row[0][None], row[1][None]), options)[0, 3:9].sum()

    parameters = dict(model.named_parameters())
    found = torch.func.vmap(torch.func.grad(total), (None, 0, 0, 0))(parameters, ids, valid, document_ids)
    for row in range(len(ids)):
        model.zero_grad()
        total(parameters, ids[row], valid[row], document_ids[row]).backward()
        assert_close(found["embedding.weight"][row], model.embedding.weight.grad)
