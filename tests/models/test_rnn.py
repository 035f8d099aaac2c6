import math

import pytest
import torch
import torch.nn.functional as F
from helpers_models import (
    LAYOUTS,
    RNNS,
    TARGET_VOCAB,
    assert_close,
    batch_of,
    built,
    choose_eos,
    gradients,
    layout,
    likeliest,
    padded,
    rows_of,
    sources,
    targets,
    tiny_rnn,
    until,
)
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from minitransformer import RNNConfig, RNNSeq2Seq, record_attention
from minitransformer.models.rnn import LUONG
from minitransformer.models.rnn_cells import RecurrentStack
from minitransformer.models.rnn_encoder import RecurrentEncoder

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


# Against torch's recurrent layers


def torch_layers(cells, cell, input_size, *, directions=1):
    """`nn.GRU` or `nn.LSTM` with the weights of our cells, which come layer by layer, forward first."""
    num_layers = len(cells) // directions
    layers = CELLS[cell](input_size, cells[0].hidden_size, num_layers, batch_first=True, bidirectional=directions == 2)
    pairs = []
    for index, ours in enumerate(cells):
        suffix = f"_l{index // directions}" + "_reverse" * (index % directions)
        pairs += [(parameter, getattr(layers, name + suffix)) for name, parameter in ours.named_parameters()]
    with torch.no_grad():
        for ours, theirs in pairs:
            theirs.copy_(ours)
    return layers, pairs


def assert_same_gradients(pairs):
    for ours, theirs in pairs:
        assert theirs.grad.abs().max() > 0
        assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("where", LAYOUTS)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_the_encoder_is_torchs_on_packed_sequences(cell, num_layers, directions, where):
    torch.manual_seed(0)
    encoder = RecurrentEncoder(cell, 5, 4, num_layers, bidirectional=directions == 2, dropout=0.0)
    layers, pairs = torch_layers(encoder.cells, cell, 5, directions=directions)
    lengths = [3, 6, 1]
    rows = [torch.randn(length, 5) for length in lengths]
    valid = layout(lengths, where)
    x = torch.randn(*valid.shape, 5)
    x[valid] = torch.cat(rows)
    theirs = pad_sequence(rows, batch_first=True).requires_grad_()
    ours = x.requires_grad_()

    states, final = encoder(ours, valid)
    packed = pack_padded_sequence(theirs, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    outputs, last = layers(packed)
    outputs = pad_packed_sequence(outputs, batch_first=True)[0]
    at_left = layout(lengths, "right")[:, : max(lengths)]
    assert_close(states[valid], outputs[at_left])
    # Theirs is one tensor for h, and one for c, over layers and directions; ours has h and c side by side.
    last = (last,) if cell == "gru" else last
    expected = torch.stack(last, dim=1).flatten(0, 1)
    assert_close(torch.stack(final), expected)

    weights, final_weights = torch.randn_like(outputs[at_left]), torch.randn_like(expected)
    ((states[valid] * weights).sum() + (torch.stack(final) * final_weights).sum()).backward()
    ((outputs[at_left] * weights).sum() + (expected * final_weights).sum()).backward()
    assert_same_gradients(pairs)
    assert_close(ours.grad[valid], theirs.grad[at_left])
    assert ours.grad[~valid].abs().max() == 0


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_decoder_steps_are_torchs_over_the_sequence(cell, num_layers):
    torch.manual_seed(0)
    stack = RecurrentStack(cell, 5, 4, num_layers, dropout=0.0)
    layers, pairs = torch_layers(stack.cells, cell, 5)
    x, kinds = torch.randn(2, 6, 5), stack.tensors_per_layer
    first = torch.randn(num_layers, kinds, 2, 4)

    state, tops, step = tuple(first.flatten(0, 1)), [], stack.steps()
    for inputs in stack.first.inputs(x).unbind(dim=1):
        state = step(inputs, state)
        tops.append(stack.top(state))
    outputs, last = layers(x, first[:, 0] if kinds == 1 else tuple(first.unbind(dim=1)))
    assert_close(torch.stack(tops, dim=1), outputs)
    last = (last,) if kinds == 1 else last
    assert_close(torch.stack(state), torch.stack(last, dim=1).flatten(0, 1))

    weights = torch.randn_like(outputs)
    (torch.stack(tops, dim=1) * weights).sum().backward()
    (outputs * weights).sum().backward()
    assert_same_gradients(pairs)


def test_dropout_falls_between_layers_only():
    torch.manual_seed(0)
    stack = RecurrentStack("gru", 5, 64, 2, dropout=0.5)
    encoder = RecurrentEncoder("gru", 5, 64, 2, bidirectional=True, dropout=0.5)
    dropped = []
    for module in (stack, encoder):
        module.dropout.register_forward_hook(lambda _, args, output: dropped.append((args[0], output)))
    state = torch.randn(4, 64), torch.randn(4, 64)
    first, top = stack.steps()(stack.first.inputs(torch.randn(4, 5)), state)
    states, final = encoder(torch.randn(4, 1, 5), None)
    assert [output.shape for _, output in dropped] == [(4, 64), (1, 4, 128)]
    assert torch.equal(dropped[0][0], first)
    assert all(0.3 < (output == 0).float().mean() < 0.7 for _, output in dropped)
    assert all((each != 0).all() for each in (first, top, states, *final))


@pytest.mark.parametrize("build", RNNS[::5])
def test_the_transforms_of_torch_func_give_what_autograd_gives_row_by_row(build):
    model = build().double()
    rows, target = torch.stack(sources(model, 3, 3)), targets(model, 2, 3)
    parameters = dict(model.named_parameters())

    def logits(parameters, row, ids):
        return functional_call(model, parameters, (row[None], ids[None]))[0]

    def loss(parameters, row, ids):
        return logits(parameters, row, ids).square().sum()

    per_row = vmap(grad(loss), (None, 0, 0))(parameters, rows, target)
    jacobian = jacrev(lambda last: logits({**parameters, "output.bias": last}, rows[0], target[0]))
    assert_close(jacobian(parameters["output.bias"])[0], torch.eye(TARGET_VOCAB, dtype=torch.float64))
    for row in range(2):
        model.zero_grad()
        loss(parameters, rows[row], target[row]).backward()
        for name, gradient in gradients(model).items():
            assert_close(per_row[name][row], gradient, tolerance=1e-10)


def test_a_loop_under_autocast_multiplies_in_bfloat16_and_keeps_its_state_in_float32():
    model = tiny_rnn(attention="additive", bidirectional=True, dropout=0.0).train()
    batch = batch_of(model)
    exact = model.loss(batch)["lm"].total
    exact.backward()
    expected = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        total = model.loss(batch)["lm"].total
    total.backward()
    assert total != exact
    assert_close(total, exact, tolerance=0.02)
    for name, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32
        assert (gradient - expected[name]).norm() < 0.05 * expected[name].norm() + 1e-3


# Against the papers' equations, in float64 on one unpadded row


def gru(cell, x, h):
    """torch's GRU: the reset gate acts on U h, after the matrix."""
    xr, xz, xn = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
    hr, hz, hn = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
    z = torch.sigmoid(xz + hz)
    return (1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * h


def bahdanau_gru(cell, x, h):
    """Bahdanau's: the reset gate acts on h, before the matrix; z is the share of what is new."""
    size = len(h)
    from_x, u, b = cell.weight_ih @ x + cell.bias_ih, cell.weight_hh, cell.bias_hh
    r, z = torch.sigmoid(from_x[: 2 * size] + u[: 2 * size] @ h + b[: 2 * size]).chunk(2)
    n = torch.tanh(from_x[2 * size :] + u[2 * size :] @ (r * h) + b[2 * size :])
    return (1 - z) * h + z * n


def lstm(cell, x, h, c):
    i, f, g, o = (cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def exact_model(**options):
    """A model in float64, a source and a target, the logits (T, V) it gives, and its encoder's (states, final)."""
    model = tiny_rnn(**options).double()
    [row], target = sources(model, 5), targets(model, 1, 4)
    memory = model.encode(row[None])
    return model, target[0], model(row[None], target)[0], memory.states[0], [x[0] for x in memory.final]


def assert_exact(logits, expected):
    assert logits.dtype == torch.float64
    assert_close(logits, torch.stack(expected), tolerance=1e-10)


@pytest.mark.parametrize("masked", [True, False])
def test_the_talks_decoder_follows_its_equations(masked):
    model, target, logits, states, [h] = exact_model(attention="location", masked=masked)
    # The talk fills the source up with zero vectors, and lets attention fall on those.
    assert len(states) == (5 if masked else model.config.max_length)
    assert (states[5:] == 0).all()
    decoder, expected = model.decoder, []
    for y in target:
        embedded = model.target_embedding.weight[y]
        score = decoder.attention.score
        a = (score.weight @ torch.cat([embedded, h]) + score.bias)[: len(states)].softmax(dim=0)
        mixed = decoder.combine.weight @ torch.cat([embedded, a @ states]) + decoder.combine.bias
        h = gru(decoder.rnn.cells[0], mixed.relu(), h)
        expected.append(model.output.weight @ h + model.output.bias)
    assert_exact(logits, expected)


@pytest.mark.parametrize(("cell", "formula"), [("gru", gru), ("bahdanau-gru", bahdanau_gru)])
def test_bahdanaus_decoder_follows_its_equations(cell, formula):
    options = {"attention": "additive", "attention_dim": 5, "bidirectional": True, "cell": cell}
    model, target, logits, states, _ = exact_model(**options)
    decoder, [bridge], expected = model.decoder, model.bridge, []
    attention = decoder.attention
    backward_at_position_1 = states[0, 8:]
    s = torch.tanh(bridge.weight @ backward_at_position_1 + bridge.bias)
    for y in target:
        embedded = model.target_embedding.weight[y]
        from_query = attention.project_query.weight @ s
        scores = [attention.v @ torch.tanh(from_query + attention.project_key.weight @ h) for h in states]
        context = torch.stack(scores).softmax(dim=0) @ states
        t = decoder.readout.weight @ torch.cat([s, embedded, context]) + decoder.readout.bias
        maxout = torch.stack([torch.maximum(t[2 * k], t[2 * k + 1]) for k in range(len(t) // 2)])
        s = formula(decoder.rnn.cells[0], torch.cat([embedded, context]), s)
        expected.append(model.output.weight @ maxout + model.output.bias)
    assert_exact(logits, expected)


@pytest.mark.parametrize("fed", [False, True], ids=["unfed", "fed"])
@pytest.mark.parametrize("attention", LUONG)
def test_luongs_decoder_follows_its_equations(attention, fed):
    options = {"attention": attention, "input_feeding": fed, "cell": "lstm", "window": 1}
    model, target, logits, states, [h, c] = exact_model(**options)
    decoder, expected = model.decoder, []
    local = decoder.attention
    parts = local.scorer if attention.startswith("local") else local
    if attention == "concat":
        both = torch.cat([parts.project_query.weight, parts.project_key.weight], dim=1)
    score = {
        "dot": lambda h, source: h @ source,
        "concat": lambda h, source: parts.v @ torch.tanh(both @ torch.cat([h, source])),
    }.get(attention, lambda h, source: h @ parts.project_key.weight @ source)
    attentional = torch.zeros(8, dtype=torch.float64)
    for t, y in enumerate(target):
        embedded = model.target_embedding.weight[y]
        h, c = lstm(decoder.rnn.cells[0], torch.cat([embedded, attentional]) if fed else embedded, h, c)
        place = t
        if attention == "local-p":
            place = len(states) * torch.sigmoid(local.v @ torch.tanh(local.project.weight @ h))
        window = [s for s in range(len(states)) if attention in ("dot", "general", "concat") or abs(s - place) <= 1]
        assert (len(window) < 5) == attention.startswith("local")
        a = torch.stack([score(h, states[s]) for s in window]).softmax(dim=0)
        if attention == "local-p":
            a = a * torch.exp(-((torch.tensor(window) - place) ** 2) / (2 * 0.5**2))
        context = a @ states[window]
        attentional = torch.tanh(decoder.combine.weight @ torch.cat([context, h]))
        expected.append(model.output.weight @ attentional + model.output.bias)
    assert_exact(logits, expected)


def test_without_attention_the_source_is_its_last_state():
    model, target, logits, _, [h] = exact_model(attention="none")
    expected = []
    for y in target:
        h = gru(model.decoder.rnn.cells[0], model.target_embedding.weight[y], h)
        expected.append(model.output.weight @ h + model.output.bias)
    assert_exact(logits, expected)


def test_two_directions_are_bridged_layer_by_layer_h_and_c_alike():
    model = tiny_rnn(attention="general", cell="lstm", bidirectional=True, num_layers=2).double()
    [row] = sources(model, 4)
    memory = model.encode(row[None])
    h1, c1, h1_back, c1_back, h2, c2, h2_back, c2_back = memory.final
    expected = []
    for bridge, pairs in zip(
        model.bridge, ([(h1, h1_back), (c1, c1_back)], [(h2, h2_back), (c2, c2_back)]), strict=True
    ):
        expected += [torch.tanh(torch.cat(pair, dim=-1) @ bridge.weight.T + bridge.bias) for pair in pairs]
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[1].recurrent))
    model(row[None], targets(model, 1, 1))
    assert_close(torch.stack(seen[0]), torch.stack(expected), tolerance=1e-10)


@pytest.mark.parametrize("build", RNNS)
def test_recorded_maps_are_distributions_over_real_tokens(build):
    model = built(build)
    valid = torch.cat([layout([2, 1, 3]), torch.zeros(1, 5, dtype=torch.bool)])  # and a source of nothing but padding
    with torch.no_grad(), record_attention(model) as maps:
        model(padded(model, sources(model, 2, 1, 3), valid), targets(model, 4, 2), valid)
    if model.config.attention == "none":
        assert not maps
        return
    [weights] = maps.values()
    if not model.config.masked:
        valid = torch.ones(4, model.config.max_length, dtype=torch.bool)
    assert weights.shape == (4, 1, 2, valid.shape[1])
    total = valid.any(dim=1).float()[:, None, None].expand(-1, 1, 2)
    if model.config.attention == "local-p":  # its Gaussian takes some of every weight
        assert ((weights.sum(dim=-1) < total) == (total > 0)).all()
    else:
        assert_close(weights.sum(dim=-1), total)
    assert (weights * ~valid[:, None, None]).abs().max() == 0


# Teacher forcing

FORCED = [
    {},
    {"attention": "additive", "bidirectional": True},
    {"attention": "dot", "input_feeding": True, "cell": "lstm"},
    {"attention": "local-m", "window": 1},
]
every_kind_of_decoder = pytest.mark.parametrize("options", FORCED, ids=["talk", "bahdanau", "luong", "local"])


def training_model(teacher_forcing, **options):
    return tiny_rnn(teacher_forcing=teacher_forcing, dropout=0.0, **options).train()


@every_kind_of_decoder
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_full_teacher_forcing_and_evaluation_give_the_cross_entropy_of_forward(training, options):
    made = {"teacher_forcing": 1.0, "dropout": 0.0} if training else {"teacher_forcing": 0.0, "label_smoothing": 0.3}
    model = tiny_rnn(**made, **options).train(training)
    batch = batch_of(model)
    logits = model(batch["source_ids"], batch["target_ids"][:, :-1], batch["source_valid"])
    labels, counted = batch["target_ids"][:, 1:], batch["target_ids"][:, 1:] != 0
    expected = F.cross_entropy(logits[counted], labels[counted], reduction="sum")
    assert_close(model.loss(batch)["lm"].total, expected)


@every_kind_of_decoder
def test_without_teacher_forcing_the_model_reads_its_own_choices_until_it_ends(options):
    steps, possible = [], []
    for seed in range(2):
        model = training_model(0.0, seed=seed, **options)
        with torch.no_grad():
            model.output.weight *= 3  # choices that differ from row to row
        rows = sources(model, *[3] * 6)
        texts = likeliest(model, rows, 5)
        choose_eos(model, texts)
        batch = batch_of(model, target_lengths=(6, 6, 3, 6, 5, 2), source_rows=rows)
        loss = model.loss(batch)["lm"]
        loss.total.backward()
        fed_back = gradients(model)

        model.zero_grad()
        losses = []
        for row, text, ids in zip(rows, texts, batch["target_ids"], strict=True):
            labels = ids[1:][ids[1:] != model.config.pad_id]
            # After an EOS there is nothing more to choose.
            chosen = until(model.config.eos_id, text)[: len(labels)]
            logits = model(row[None], torch.tensor([[model.config.bos_id, *chosen[:-1]]]))[0]
            losses.append(F.cross_entropy(logits, labels[: len(chosen)], reduction="sum"))
            steps.append(len(chosen))
            possible.append(len(labels))
        assert_close(loss.total, sum(losses))
        assert loss.count == sum(possible[-6:]) == model.count_targets(batch)["lm"]
        sum(losses).backward()
        for name, gradient in gradients(model).items():
            assert_close(fed_back[name], gradient, tolerance=1e-4)
    # Some rows end early and some never, or this would test only one of the two.
    assert any(1 < step < most for step, most in zip(steps, possible, strict=True))
    assert any(step == most == 5 for step, most in zip(steps, possible, strict=True))


def seeded_loss(model, batch, seed):
    torch.manual_seed(seed)
    return model.loss(batch)["lm"].total.item()


def test_padding_is_not_read_even_where_the_coin_forces():
    """A forced row that has ended reads its padding, which must not change its loss."""
    model = training_model(0.5)
    batch = batch_of(model, target_lengths=(3, 3, 3))
    wider = {**batch, "target_ids": F.pad(batch["target_ids"], (0, 4), value=model.config.pad_id)}
    assert seeded_loss(model, wider, seed=3) == pytest.approx(seeded_loss(model, batch, seed=3), abs=1e-5)


def test_teacher_forcing_is_the_chance_of_each_row_to_be_forced():
    model = training_model(0.25)
    row = batch_of(model, source_lengths=(3,), target_lengths=(6,))
    forced, free = (training_model(ratio).loss(row)["lm"].total.item() for ratio in (1.0, 0.0))
    total, again = (seeded_loss(model, rows_of(row, *[0] * 400), seed=0) for _ in range(2))
    assert total == again
    assert (total - 400 * free) / (forced - free) == pytest.approx(100, abs=4 * math.sqrt(400 * 0.25 * 0.75))


def test_a_fed_back_row_is_smoothed_like_any_other():
    smooth, plain = training_model(0.0, label_smoothing=0.4), training_model(0.0)
    batch = batch_of(smooth, target_lengths=(2, 2, 2))  # one step: nothing is fed back yet
    forced = training_model(1.0, label_smoothing=0.4)
    assert_close(smooth.loss(batch)["lm"].total, forced.loss(batch)["lm"].total)
    assert smooth.loss(batch)["lm"].total != plain.loss(batch)["lm"].total


# Decoding and the output


@pytest.mark.parametrize("options", [{"attention": "additive"}, {"attention": "local-p", "hidden_size": 6}])
def test_a_tied_output_is_the_target_embedding(options):
    model = tiny_rnn(tie_output=True, **options)
    assert model.output.weight is model.target_embedding.weight
    assert model.output.weight.shape == (TARGET_VOCAB, 6)
    torch.manual_seed(0)
    sizes = {"d_model": 64, "hidden_size": 64, "tie_output": True, "attention": options["attention"]}
    drawn = RNNSeq2Seq(RNNConfig(90, 90, **sizes))
    assert drawn.target_embedding.weight.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert drawn.source_embedding.weight.std().item() == pytest.approx(1, rel=0.05)
    read = []
    drawn.dropout.register_forward_hook(lambda _, args, output: read.append(output))
    ids = torch.tensor([[3, 8]])
    drawn.eval()(ids, ids)
    assert_close(read[1], 8 * drawn.target_embedding.weight[ids])
