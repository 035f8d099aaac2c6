"""Every kind of model computes on a GPU what it computes on a CPU."""

import copy

import pytest
import torch
from helpers_kinds import DECODERS, ENCODER_DECODERS, KINDS, batch_for
from helpers_models import assert_close, fresh_gpt, gradients, tiny_transformer

from minitransformer import GPT, GPTConfig, beam_search, greedy, kernels, sample
from minitransformer.optim import adamw, clip_gradients, muon

VALID = torch.tensor([[True] * 5, [False] * 2 + [True] * 3])


def on_gpu(batch):
    return {name: tensor.cuda() for name, tensor in batch.items()}


def padded(name):
    """A batch with padding, where the loss of this kind knows it."""
    batch = batch_for(name)
    return batch | {"source_valid" if name in ENCODER_DECODERS else "valid": VALID}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("make_batch", [batch_for, padded])
def test_losses_and_gradients(name, make_batch):
    model, batch = KINDS[name]().double(), make_batch(name)
    same = copy.deepcopy(model).float().cuda()
    losses, found = model.loss(batch), same.loss(on_gpu(batch))
    assert losses.keys() == found.keys()
    for term, loss in losses.items():
        assert found[term].count.device.type == "cuda" and found[term].count == loss.count
        assert_close(found[term].total.cpu().double(), loss.total.double(), 1e-4)
    for each in (losses, found):
        sum(loss.total / loss.count for loss in each.values()).backward()
    exact = gradients(model)
    for parameter, gradient in gradients(same).items():
        assert (gradient.cpu().double() - exact[parameter]).norm() <= 1e-4 * max(1.0, exact[parameter].norm())


def texts(model, inputs, valid, device):
    """What each way of decoding finds."""
    model, inputs, valid = model.to(device), inputs.to(device), valid.to(device)
    return [
        greedy(model, inputs, valid, max_new_tokens=6).tolist(),
        greedy(model, inputs, valid, max_new_tokens=6, repetition_penalty=1.5, vocab_size=8).tolist(),
        sample(model, inputs, valid, max_new_tokens=6, top_k=1, temperature=0.7).tolist(),
        [[each.ids for each in found] for found in beam_search(model, inputs, valid, max_new_tokens=6, n_best=2)],
    ]


@pytest.mark.parametrize("name", DECODERS)
def test_decoding(name):
    valid = torch.ones_like(VALID) if name == "talk unmasked" else VALID
    model, inputs = KINDS[name](), torch.randint(5, 9, VALID.shape)
    expected = texts(model, inputs, valid, "cpu")
    assert texts(model, inputs, valid, "cuda") == expected
    with kernels.disabled():
        assert texts(model, inputs, valid, "cuda") == expected


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "talk unmasked"])
def test_cached_logits_equal_uncached_and_a_batch_is_its_rows(name):
    model = KINDS[name]().cuda()
    inputs, follow, valid = torch.randint(5, 9, VALID.shape).cuda(), torch.randint(4, 8, (2, 6)).cuda(), VALID.cuda()

    def cached(rows):
        ids = inputs[rows][:, valid[rows][0]] if len(rows) == 1 else inputs
        logits, state = model.start(ids, valid if len(rows) > 1 else None, max_new_tokens=8)
        found = [logits]
        for column in follow[rows].unbind(dim=1):
            logits, state = model.step(column, state)
            found.append(logits)
        return torch.stack(found, dim=1)

    together = cached([0, 1])
    for row in (0, 1):
        alone = cached([row])
        assert_close(together[row], alone[0], 1e-5)
        source = inputs[row : row + 1, valid[row]]
        with torch.no_grad():
            if name in ENCODER_DECODERS:
                bos = torch.full((1, 1), model.config.bos_id, device="cuda")
                whole = model(source, torch.cat([bos, follow[row : row + 1]], dim=1))
            else:
                whole = model(torch.cat([source, follow[row : row + 1]], dim=1))[:, source.shape[1] - 1 :]
        assert_close(whole[0], alone[0], 1e-5)


def test_samples_repeat_with_their_seed_and_leave_the_random_state_of_the_gpu():
    model, inputs = fresh_gpt().cuda(), torch.randint(5, 9, (4, 3)).cuda()
    before = torch.cuda.get_rng_state()
    first, second = (sample(model, inputs, max_new_tokens=20, top_p=0.9, seed=3) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert not torch.equal(first, sample(model, inputs, max_new_tokens=20, top_p=0.9, seed=4))


@pytest.mark.parametrize("optimizer", [adamw, muon])
@pytest.mark.parametrize("kind", ["gpt", "transformer"])
def test_training_in_bfloat16_lowers_the_loss_as_float32_does(kind, optimizer):
    build = {"gpt": fresh_gpt, "transformer": tiny_transformer}[kind]
    batch = on_gpu(batch_for(kind, rows=8))
    reached = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = build(dropout=0.0).cuda().train()
        steps, losses = optimizer(model, lr=3e-3), []
        for _ in range(20):
            with torch.autocast("cuda", dtype, enabled=dtype is torch.bfloat16):
                loss = model.loss(batch)["lm"]
            (loss.total / loss.count).backward()
            assert clip_gradients(model.parameters(), 1.0) > 0
            steps.step()
            steps.zero_grad()
            losses.append((loss.total / loss.count).item())
        assert losses[-1] < 0.8 * losses[0]
        reached[dtype] = losses
    assert reached[torch.bfloat16][0] == pytest.approx(reached[torch.float32][0], rel=0.02)
    assert reached[torch.bfloat16][-1] == pytest.approx(reached[torch.float32][-1], rel=0.15)


GRAPHED = {
    "gpt": lambda: fresh_gpt(max_length=300),
    "modern gpt": lambda: fresh_gpt(
        "rotary", 2, max_length=300, norm="rmsnorm", bias=False, qk_norm=True, activation="swiglu", logit_softcap=15.0
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("name", GRAPHED)
@torch.no_grad()
def test_steps_as_a_graph_give_the_logits_of_steps_on_both_sides_of_a_block_of_slots(name, is_padded, dtype):
    model, follow = GRAPHED[name]().cuda().to(dtype), torch.randint(6, 13, (2, 290)).cuda()
    inputs, valid = torch.randint(6, 9, VALID.shape).cuda(), VALID.cuda() if is_padded else None

    def steps():
        logits, state = model.start(inputs, valid, max_new_tokens=295)
        found, graphs = [], set()
        with kernels.one_call():
            for ids in follow.unbind(dim=1):
                logits, state = model.step(ids, state)
                found.append(logits.clone())
                graphs.add(state.graph.graph)
        return torch.stack(found), graphs - {None}

    ours, graphs = steps()
    assert len(graphs) == 2
    with kernels.disabled("gpt_graph"):
        expected, graphs = steps()
    assert not graphs
    assert (ours - expected).norm() <= (1e-5 if dtype is torch.float32 else 2e-2) * expected.norm()


def test_greedy_and_sample_write_as_a_graph_what_they_write_without():
    model, inputs = fresh_gpt(max_length=64).cuda(), torch.randint(6, 9, (3, 4)).cuda()
    ways = [lambda: greedy(model, inputs, max_new_tokens=40), lambda: sample(model, inputs, max_new_tokens=40, seed=5)]
    ways += [lambda: greedy(model, inputs, max_new_tokens=40, repetition_penalty=1.3)]
    for way in ways:
        found = way()
        with kernels.disabled("gpt_graph"):
            assert torch.equal(found, way())


VOCAB = 2000  # large enough for the kernel of the output layer's loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("padded", [False, True])
def test_the_loss_over_a_large_vocabulary_by_its_kernel_is_that_of_the_formula(dtype, padded):
    model = GPT(GPTConfig(VOCAB, 16, 32, 2, num_layers=1, eos_id=0, dropout=0.0)).cuda()
    batch = {"ids": torch.randint(VOCAB, (3, 12)).cuda()}
    if padded:
        batch["valid"] = torch.arange(12).cuda()[None] < torch.tensor([[12], [7], [2]]).cuda()

    def both():
        with torch.autocast("cuda", dtype, enabled=dtype is not torch.float32):
            loss = model.loss(batch)["lm"]
        model.zero_grad()
        (loss.total / loss.count).backward()
        return {"loss": loss.total.detach(), **gradients(model)}

    ours = both()
    with kernels.disabled("output_loss"):
        formula = both()
    for name, value in formula.items():
        assert (ours[name] - value).norm() <= (1e-5 if dtype is torch.float32 else 2e-2) * value.norm()


def test_a_hook_on_the_output_layer_is_obeyed_by_the_loss():
    model = GPT(GPTConfig(VOCAB, 16, 32, 2, num_layers=1, eos_id=0, dropout=0.0)).cuda()
    model.output.register_forward_hook(lambda module, inputs, output: 0 * output)
    loss = model.loss({"ids": torch.randint(VOCAB, (3, 12)).cuda()})["lm"]
    assert_close((loss.total / loss.count).item(), torch.tensor(VOCAB).log().item())


def test_a_step_of_training_waits_for_the_gpu_only_to_look_at_its_ids(monkeypatch):
    """Each wait leaves the GPU without work for as long as it takes to send it the next."""
    model = GPT(GPTConfig(VOCAB, 16, 32, 2, num_layers=1, eos_id=0, dropout=0.1)).cuda().train()
    batch = {"ids": torch.randint(VOCAB, (3, 12)).cuda()}
    model.loss(batch)["lm"].total.backward()
    monkeypatch.setattr("minitransformer.models.base.require_known", lambda *arguments: None)
    monkeypatch.setattr("minitransformer.models.gpt.require_known", lambda *arguments: None)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = model.loss(batch)["lm"]
        (loss.total / loss.count).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
