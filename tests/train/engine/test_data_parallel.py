"""Gradients of several processes are those of one that has all the batches."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers_processes import together
from torch._dynamo.testing import CompileCounter
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from minitransformer import (
    BERT,
    GPT,
    BERTConfig,
    GPTConfig,
    RNNConfig,
    RNNSeq2Seq,
    SequenceClassifier,
    Transformer,
    TransformerConfig,
)
from minitransformer.optim import adamw, clip_gradients, muon
from train.engine import data_parallel
from train.engine.data_parallel import Replica, replicate, unsharded
from train.engine.loop import accumulate_gradients
from train.engine.processes import Processes
from train.engine.settings import LoopOptions

PAIR = dict(source_vocab_size=9, target_vocab_size=9, d_model=8, dropout=0.0)
BLOCKS = dict(num_heads=2, num_encoder_layers=2, num_decoder_layers=2, d_ff=16)
TINY_BERT = dict(vocab_size=9, max_length=12, d_model=8, num_heads=2, num_layers=2, d_ff=16, dropout=0.0)
TINY_BERT |= dict(cls_id=1, sep_id=2, mask_id=3)


def seq2seq_batch(generator, number):
    rows, length = 1 + number % 3, 3 + number % 4
    source = torch.randint(4, 9, (rows, length), generator=generator)
    target = torch.cat([torch.full((rows, 1), 2), source, torch.full((rows, 1), 3)], dim=1)
    target[0, -1] = 0  # uneven counts of targets
    return {"source_ids": source, "source_valid": source != 4, "target_ids": target}


def gpt_batch(generator, number):
    return {"ids": torch.randint(0, 9, (1 + number % 3, 4 + number % 5), generator=generator)}


def masked_batch(generator, number):
    """Pairs of sentences in one batch of three, so that one process has them and another has not."""
    ids = torch.randint(4, 9, (2, 5 + number % 4), generator=generator)
    targets = torch.where(torch.rand(ids.shape, generator=generator) < 0.4, ids, -100)
    pairs = {"sentence_labels": torch.tensor([0, 1])} if number % 3 == 0 else {}
    return {"ids": ids, "targets": targets, **pairs}


def label_batch(generator, number):
    ids = torch.randint(4, 9, (2 + number % 3, 5), generator=generator)
    return {"ids": ids, "labels": ids[:, 0] % 2}


def bert(**fields):
    return BERT(BERTConfig(**TINY_BERT, **fields))


CASES = {
    "transformer": (lambda: Transformer(TransformerConfig(**PAIR, **BLOCKS, share_embeddings=True)), seq2seq_batch),
    "relative": (lambda: Transformer(TransformerConfig(**PAIR, **BLOCKS, positions="relative")), seq2seq_batch),
    "rnn": (lambda: RNNSeq2Seq(RNNConfig(**PAIR, hidden_size=8, attention="additive")), seq2seq_batch),
    "gpt": (lambda: GPT(GPTConfig(9, 12, 8, 2, num_layers=2, eos_id=0, dropout=0.0)), gpt_batch),
    "bert": (lambda: bert(sentence_head="nsp"), masked_batch),
    "albert": (lambda: bert(sentence_head="sop", num_hidden_groups=1, d_embedding=4), masked_batch),
    "classifier": (lambda: SequenceClassifier(bert(), 2, dropout=0.0), label_batch),
}  # fmt: skip
KINDS = {"ddp": False, "fsdp": True}
NUM_BATCHES, STEPS = 4, 2


SEVERAL = [*((2, case, "fsdp") for case in CASES), *((2, case, "ddp") for case in ("transformer", "rnn", "bert"))]
SEVERAL += [(4, "bert", kind) for kind in KINDS]


def trained(case, processes, *, fsdp=False, optimizer=None, compile=False, reduction="mean", autocast=None):
    """Losses and gradient norms of two steps, gradients of the first, and weights after each."""
    torch.manual_seed(0)
    build, make_batch = CASES[case]
    model = build().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1) if optimizer is None else optimizer(model, lr=0.01)
    replica = replicate(model, optimizer, processes, fsdp=fsdp, compile=compile)
    options = LoopOptions(lr=0.1, steps=STEPS, loss_reduction=reduction, autocast=autocast)
    generator = torch.Generator().manual_seed(0)
    figures, gradients = [], {}
    for step in range(STEPS):
        batches = [make_batch(generator, NUM_BATCHES * step + number) for number in range(NUM_BATCHES)]
        loss, count = accumulate_gradients(replica, processes.share(batches), options)
        if not step:
            named = replica.model.named_parameters()
            gradients = {name: unsharded(p.grad).clone() for name, p in named if p.grad is not None}
        figures.append((loss, float(count), clip_gradients(replica.model.parameters(), 0.5)))
        optimizer.step()
        optimizer.zero_grad()
    weights = {name: unsharded(p.detach()) for name, p in replica.model.named_parameters()}
    return {"figures": torch.tensor(figures), "gradients": gradients, "weights": weights}


pytestmark = pytest.mark.usefixtures("as_users_run_it")


@functools.cache
def of_several(world_size):
    """All cases at once: to start processes takes longer than to train in them."""
    return together(
        world_size,
        lambda processes: {
            (case, kind): trained(case, processes, fsdp=KINDS[kind]) for n, case, kind in SEVERAL if n == world_size
        },
    )


def require_equal(several, alone, *, weights=True, tolerance=1e-6):
    close = functools.partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    for result in several:
        close(result["figures"], alone["figures"])
        for part in ("gradients", "weights") if weights else ("gradients",):
            assert result[part].keys() == alone[part].keys()
            for name, tensor in alone[part].items():
                close(result[part][name], tensor, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("world_size", "case", "kind"), SEVERAL)
def test_several_processes_compute_what_one_does(world_size, case, kind):
    several = [results[case, kind] for results in of_several(world_size)]
    alone = trained(case, Processes())
    assert alone["figures"][:, 1].min() > 0
    require_equal(several, alone)


def test_one_process_of_torchrun_shards_and_computes_the_same():
    [(kind, result)] = together(1, shards_alone)
    assert kind == "1 process, FSDP over gloo"
    require_equal([result], trained("gpt", Processes()))


def shards_alone(processes):
    build, _ = CASES["gpt"]
    model = build()
    summary = replicate(model, torch.optim.SGD(model.parameters(), lr=0.1), processes, fsdp=True).summary
    return summary, trained("gpt", processes, fsdp=True)


def exchanges(processes, *, fsdp):
    """How often gradients are exchanged while two batches in each process make one step."""
    calls = []

    def counted(exchange):
        @functools.wraps(exchange)
        def call(*arguments, **options):
            calls.append(exchange)
            return exchange(*arguments, **options)

        return call

    model = CASES["gpt"][0]()
    replica = replicate(model, torch.optim.SGD(model.parameters(), lr=0.1), processes, fsdp=fsdp)
    if fsdp:
        name = "reduce_scatter_single" if hasattr(dist, "reduce_scatter_single") else "reduce_scatter_tensor"
        setattr(dist, name, counted(getattr(dist, name)))
    else:
        replica.module.register_comm_hook(None, counted(allreduce_hook))
    batches = [gpt_batch(torch.Generator().manual_seed(0), number) for number in range(4)]
    accumulate_gradients(replica, processes.share(batches), LoopOptions(lr=0.1, steps=1))
    return len(calls)


def test_gradients_are_exchanged_once_a_step_however_many_batches_it_has():
    assert together(2, functools.partial(exchanges, fsdp=False)) == [1, 1]  # everything fits one bucket
    assert together(2, functools.partial(exchanges, fsdp=True)) == [3, 3]  # two blocks, and the rest


def test_summed_losses_and_bfloat16_are_those_of_one_process():
    ways = {"summed": {"reduction": "sum"}, "bf16": {"autocast": torch.bfloat16}}
    several = together(2, lambda p: {way: trained("gpt", p, fsdp=True, **options) for way, options in ways.items()})
    require_equal([r["summed"] for r in several], trained("gpt", Processes(), reduction="sum"), tolerance=1e-5)
    require_equal([r["bf16"] for r in several], trained("gpt", Processes(), autocast=torch.bfloat16), tolerance=1e-2)


@pytest.mark.parametrize("optimizer", [adamw, muon, functools.partial(muon, normalize=True)])
def test_other_optimizers_step_as_in_one_process(optimizer):
    """Adam and Muon magnify rounding where a gradient is almost zero."""
    several = together(2, lambda p: [trained("gpt", p, fsdp=fsdp, optimizer=optimizer) for fsdp in (False, True)])
    alone = trained("gpt", Processes(), optimizer=optimizer)
    for results in several:
        require_equal(results, alone, weights=False)
        for result in results:
            for name, tensor in alone["weights"].items():
                torch.testing.assert_close(result["weights"][name], tensor, rtol=0, atol=2e-4)


def test_a_part_that_no_batch_uses_has_no_gradient():
    """As in one process, where the optimizer passes it over."""

    def gradients(processes):
        found = []
        for fsdp in KINDS.values():
            model = bert(sentence_head="nsp")
            replica = replicate(model, torch.optim.SGD(model.parameters(), lr=0.1), processes, fsdp=fsdp)
            batches = [masked_batch(torch.Generator().manual_seed(n), n) for n in (1, 2)]  # neither has pairs
            accumulate_gradients(replica, processes.share(batches), LoopOptions(lr=0.1, steps=1))
            found.append([name for name, p in replica.model.named_parameters() if p.grad is None])
        return found

    expected = ["pooler.weight", "pooler.bias", "sentence_head.weight", "sentence_head.bias"]
    assert together(2, gradients) == [[expected, expected]] * 2


def test_shards_hold_a_part_of_everything_and_the_model_stands_empty():
    def sizes(processes):
        torch.manual_seed(0)
        model = CASES["gpt"][0]()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        optimizer = adamw(model, lr=0.1)
        replica = replicate(model, optimizer, processes, fsdp=True)
        accumulate_gradients(replica, [gpt_batch(torch.Generator(), 0)], LoopOptions(lr=0.1, steps=1))
        optimizer.step()
        optimizer.zero_grad()
        shards = list(replica.model.parameters())
        held = [sum(t.to_local().numel() for t in shards)]
        held += [sum(optimizer.state[p][key].to_local().numel() for p in shards) for key in ("exp_avg", "exp_avg_sq")]
        stored = sum(parameter.untyped_storage().nbytes() for parameter in model.parameters())
        with replica.evaluated() as whole:
            assert whole is model
            changed = processes.is_rank_0 and not torch.equal(whole.embedding.weight, before["embedding.weight"])
            tied = whole.output.weight is whole.embedding.weight
        replica.close()
        return held, stored, changed, tied, replica.model.output.weight is replica.model.embedding.weight

    whole = CASES["gpt"][0]().num_parameters()
    first, second = together(2, sizes)
    assert [a + b for a, b in zip(first[0], second[0], strict=True)] == [whole] * 3
    assert max(first[0]) < 0.6 * whole
    assert first[1] == second[1] == 0
    assert (first[2], second[2]) == (True, False)
    assert first[3:] == second[3:] == (True, True)


def test_one_process_trains_the_model_itself():
    model = CASES["gpt"][0]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    replica = replicate(model, optimizer, Processes(), fsdp=True)
    assert type(replica) is Replica
    assert replica.model is model
    with replica.evaluated() as whole:
        assert whole is model
        assert not model.training
    assert model.training


def test_compiling_a_model_without_blocks_has_no_effect_and_says_so():
    model = CASES["rnn"][0]()
    with pytest.warns(UserWarning, match="--compile has no effect on RNNSeq2Seq: it has no blocks"):
        replicate(model, torch.optim.SGD(model.parameters(), lr=0.1), Processes(), compile=True)


def require_compiled_same(kind):
    """torch.compile proper, which needs a C++ compiler."""
    alone = trained("transformer", Processes())
    several = together(2, lambda p: trained("transformer", p, fsdp=KINDS[kind], compile=True))
    require_equal(several, alone, tolerance=1e-5)
    require_equal([trained("transformer", Processes(), compile=True)], alone, tolerance=1e-5)


def require_one_compilation():
    """Of each block, whatever the shapes; with a backend that needs no compiler."""
    counter = CompileCounter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_parallel, "COMPILER", counter)
        sizes = dict(d_model=8, num_heads=2, d_ff=8, num_encoder_layers=1, num_decoder_layers=1, max_length=32)
        model = Transformer(TransformerConfig(9, 9, positions="rotary", **sizes))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        replica = replicate(model, optimizer, Processes(), compile=True, fixed_shapes=False)
        for rows, length in ((2, 5), (3, 9), (5, 17), (4, 30)):
            ids = torch.randint(4, 9, (rows, length))
            batch = {"source_ids": ids, "source_valid": ids > 0, "target_ids": ids[:, 1:]}
            replica.loss(batch)["lm"].total.backward()
    assert counter.frame_count == 2, counter.frame_count


@pytest.mark.slow
@pytest.mark.parametrize("check", ["one_compilation()", *(f"compiled_same({kind!r})" for kind in KINDS)])
def test_compiled_models_compute_the_same(check):
    """And compile once. In a process of its own, without the checks of shapes, which a compiler cannot look through."""
    here = Path(__file__).parent
    code = f"import test_data_parallel; test_data_parallel.require_{check}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, here.parents[1], here.parents[2])))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
