"""The doors of the library, called with numbers at the edge, ids out of range, odd texts and nothing to do."""

import dataclasses
from pathlib import Path

import torch
from fuzz.damage import ODD_STRINGS, random_text, scalar, value
from fuzz.harness import Attack, require
from fuzz.saved_models import PIPELINES, TEXTS, pipelines
from helpers_bert import ours_of
from helpers_models import tiny_gpt, tiny_rnn, tiny_transformer

from minitransformer import (
    BERT,
    GPT,
    GPTConfig,
    SequenceClassifier,
    beam_search,
    greedy,
    sample,
    stream,
)
from minitransformer.data import load

NAN, INF = float("nan"), float("inf")
RATES = [-1.0, -1e-300, 0.0, 1e-300, 1e-45, 1e-9, 0.5, 1.0, 1.0000001, 3.0, 1e10, 1e38, 1e300, INF, NAN]
COUNTS = [-(2**63), -1, 0, 1, 2, 3, 5]
SAMPLING = {
    "temperature": RATES,
    "top_k": [*COUNTS, 10**12],
    "top_p": RATES,
    "min_p": RATES,
    "repetition_penalty": RATES,
    "stop_ids": [[], [0], [-1], [10**6]],
    "seed": [-1, 0, 2**32, 2**63, 2**64, -(2**63), -(2**70)],
}
DECODERS = {
    greedy: {"repetition_penalty": RATES, "stop_ids": [[], [0], [-1], [10**6]]},
    sample: SAMPLING,
    stream: {"repetition_penalty": RATES},
    beam_search: {"beam_size": [-1, 0, 1, 2, 50], "alpha": RATES, "n_best": [-1, 0, 1, 2, 60]},
}


def some_options(draw, choices):
    return {name: draw.choice(values) for name, values in choices.items() if draw.random() < 0.3}


def odd_ids(draw, vocab_size, *, batch=None, time=None):
    """Ids (B, T), of which one may be out of range, and whether one is."""
    batch = draw.choice([0, 1, 1, 2, 3]) if batch is None else batch
    time = draw.choice([0, 1, 2, 5, 16, 17, 40]) if time is None else time
    ids = torch.tensor([draw.randrange(vocab_size) for _ in range(batch * time)]).view(batch, time).long()
    wrong = ids.numel() > 0 and draw.random() < 0.2
    if wrong:
        ids[draw.randrange(batch), draw.randrange(time)] = draw.choice([-1, vocab_size, 2**31, -100, 2**63 - 1])
    return ids, wrong


def odd_valid(draw, ids):
    """None, or which tokens are real: at random, all or none of a row."""
    if draw.random() < 0.4:
        return None
    valid = torch.tensor([[draw.random() < 0.7 for _ in row] for row in ids]).view(ids.shape).bool()
    if len(ids):
        valid[draw.randrange(len(ids))] = draw.random() < 0.5
    return valid


def decoding(folder: Path):
    """greedy, sample, stream and beam_search."""
    models = [tiny_gpt(), tiny_gpt("rotary", 2), tiny_gpt("alibi"), tiny_transformer()]
    models += [tiny_transformer(positions="learned"), tiny_rnn(), tiny_rnn(attention="general", bidirectional=True)]

    def strike(draw):
        model, decode = draw.choice(models), draw.choice(list(DECODERS))
        is_gpt = isinstance(model, GPT)
        size = model.config.vocab_size if is_gpt else model.config.source_vocab_size
        written = size if is_gpt else model.config.target_vocab_size
        ids, wrong = odd_ids(draw, size)
        valid = odd_valid(draw, ids)
        steps = draw.choice([*COUNTS, 30])
        found = decode(model, ids, valid, max_new_tokens=steps, **some_options(draw, DECODERS[decode]))
        if decode is beam_search:
            rows = [each.ids for row in found for each in row]
        else:
            found = [*zip(*found, strict=True)] if decode is stream else found
            rows = [[int(token) for token in row] for row in found]
        read = ids if valid is None else ids[valid]
        require(not steps or not wrong or not ((read < 0) | (read >= size)).any(), "ids out of range were read")
        require(len(found) == len(ids) or not steps, f"{len(found)} rows for {len(ids)}")
        require(all(0 <= token < written for row in rows for token in row), "tokens that the vocabulary does not have")
        require(all(len(row) <= steps for row in rows), "more tokens than asked for")

    return strike


def forward_passes(folder: Path):
    """forward, encode and loss of every model."""
    models = [tiny_gpt(), tiny_gpt("rotary"), ours_of(), ours_of("RoBERTa"), tiny_transformer(), tiny_rnn()]
    models.append(SequenceClassifier(ours_of(), 3).eval())

    def strike(draw):
        model = draw.choice(models)
        c = model.config
        size = getattr(c, "vocab_size", None) or getattr(c, "source_vocab_size", None) or 13
        ids, wrong = odd_ids(draw, size)
        valid, door = odd_valid(draw, ids), draw.choice(["forward", "encode", "loss"])
        if door == "encode":
            made = [model.encode(ids, valid).states]
        elif hasattr(c, "target_vocab_size"):
            targets, also = odd_ids(draw, c.target_vocab_size, batch=len(ids))
            wrong = wrong or (also and (door == "forward" or targets.shape[1] > 1))
            batch = {"source_ids": ids, "target_ids": targets}
            batch["source_valid"] = torch.ones_like(ids).bool() if valid is None else valid
            made = [model(ids, targets, valid)] if door == "forward" else sums(model.loss(batch))
        elif door == "forward":
            made = [model(ids, valid)]
        else:
            batch = {"ids": ids, "targets": ids, "labels": torch.zeros(len(ids)).long()}
            made = sums(model.loss(batch if valid is None else {**batch, "valid": valid}))
        nothing = door == "loss" and ids.shape[1] == 1  # one token has no next one: a loss reads nothing
        require(not wrong or valid is not None or nothing, "ids out of range were read")
        require(all(bool(each.isfinite().all()) for each in made), "numbers that are not finite")

    return strike


def sums(losses):
    return [loss.total for loss in losses.values()]


def odd_texts(draw):
    """What a user may hand to a door that takes texts: a string, a list, nothing, anything in it."""
    texts = ["", " ", "\n", "\0", "\ud800", "a" * 3000, "猫\u202e", "[MASK]", *TEXTS, *ODD_STRINGS, random_text(draw)]
    some = draw.choices(texts, k=draw.randrange(4))
    return draw.choice([some, tuple(some), draw.choice(texts)])


def text_pipelines(folder: Path):
    """Translator, Completer, Classifier and MaskFiller."""
    loaded = {name: kind.load(place) for name, (place, kind) in pipelines(folder).items()}
    options = {
        "Translator": {"beam_size": [-1, 0, 1, 3], "alpha": RATES, "max_new_tokens": COUNTS},
        "Completer": SAMPLING,
        "Classifier": {},
        "MaskFiller": {"top_k": [*COUNTS, 55, 10**12]},
    }

    def strike(draw):
        pipeline, texts = loaded[draw.choice(list(PIPELINES))], odd_texts(draw)
        name = type(pipeline).__name__
        given = some_options(draw, options[name])
        if name == "Completer":
            given["max_new_tokens"] = draw.choice([*COUNTS, 40])
        found = pipeline(texts, **given)
        if not isinstance(texts, str):
            require(len(found) == len(texts), f"{len(found)} results for {len(texts)} texts")
        elif name != "MaskFiller":  # which gives a list of gaps
            require(not isinstance(found, list), "a string was taken for its letters")

    return strike


def configurations(folder: Path):
    """Odd values in the settings of a model; what is accepted can be built and used."""
    valid = {
        GPT: GPTConfig(vocab_size=9, max_length=8, d_model=8, num_heads=2, num_layers=1, eos_id=0),
        BERT: ours_of().config,
        type(tiny_transformer()): tiny_transformer().config,
        type(tiny_rnn()): tiny_rnn().config,
    }

    def strike(draw):
        model, config = draw.choice(list(valid.items()))
        values = dataclasses.asdict(config)
        for name in draw.sample(sorted(values), draw.choice([1, 1, 2])):
            other = draw.choice(list(values.values()))
            values[name] = draw.choice([value(draw), scalar(draw), draw.choice(COUNTS), draw.choice(RATES), other])
        made = type(config)(**values)
        sizes = [number for number in vars(made).values() if isinstance(number, int)]
        if max(sizes) > 300:
            return
        ids = torch.zeros(1, 1, dtype=torch.long)
        built = model(made).eval()
        inputs = (ids, ids) if hasattr(made, "target_vocab_size") else (ids,)
        require(bool(built(*inputs).isfinite().all()), "numbers that are not finite")

    return strike


NAMES = ["", ".", "..", "/", "\0", "~nobody/x", "hub:", "hub:::", "a" * 5000, "dates ", "\ud800", "/dev/null"]


def corpora(folder: Path):
    """`load` with odd names and options."""
    (folder / "empty").mkdir()

    def strike(draw):
        name = draw.choice(["dates", "recall", str(folder / "empty"), draw.choice(NAMES), random_text(draw)])
        choices = {
            "count": [-(2**63), -1, 0, 1, 5, 12, 100],
            "locales": ["", "en", "xx", "de,fr", ",", [], [""], ["en", "en"], "\0", "EN"],
            "seed": [-1, 0, 2**32, -(2**70)],
            "kind": ["pairs", "text", "labelled"],
            "source": ["", "source", "\0"],
            "target": ["", "target"],
        }
        options = {"count": 30, **some_options(draw, choices)}
        if name not in ("dates", "recall"):
            del options["count"]
        if name.startswith("hub:") and name.strip(":") != "hub":
            return
        splits = load(name, **options)
        require(all(len(split) for split in splits.values()), "an empty split")

    return strike


ATTACKS = [
    Attack("arguments: decoding", decoding, share=12),
    Attack("arguments: forward passes", forward_passes, share=6),
    Attack("arguments: pipelines", text_pipelines, share=8),
    Attack("arguments: configurations", configurations, share=6),
    Attack("arguments: corpora", corpora, share=4),
]
