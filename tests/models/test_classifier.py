import itertools
from types import SimpleNamespace

import jaxtyping
import pytest
import torch
from helpers_kinds import bert
from helpers_models import (
    SOURCE_VOCAB,
    assert_close,
    fresh_gpt,
    layout,
    nudged,
    tiny_rnn,
    tiny_transformer,
)
from safetensors.torch import load_file

import minitransformer
from minitransformer import BERT, InputError, Memory, SequenceClassifier
from minitransformer.models.pooling import POOLINGS

VOCAB = SOURCE_VOCAB  # the smallest
ENCODERS = {
    "bert": bert,
    "albert": lambda: bert(d_embedding=4, num_hidden_groups=1, sentence_head="sop"),
    "roberta": lambda: bert(position_offset=2, num_segments=1, pooler=False, sentence_head=None, pad_id=1),
    "bert-rotary": lambda: bert(positions="rotary", pre_norm=True, qk_norm=True),
    "gpt": fresh_gpt,
    "gpt-untied": lambda: fresh_gpt("rotary", tie_output=False, norm="rmsnorm"),
    "transformer": tiny_transformer,
    "transformer-shared": lambda: tiny_transformer(share_embeddings=True, target_vocab_size=VOCAB),
    "rnn": lambda: tiny_rnn(bidirectional=True, num_layers=2),
    "rnn-lstm": lambda: tiny_rnn(cell="lstm", attention="additive"),
}
every_encoder_and_pooling = pytest.mark.parametrize(
    ("encoder", "pooling"), [*zip(ENCODERS, itertools.cycle(POOLINGS)), *(("bert", pooling) for pooling in POOLINGS)]
)


def made(encoder, pooling, **options):
    torch.manual_seed(0)
    return nudged(SequenceClassifier(ENCODERS[encoder](), 3, pooling=pooling, **options)).eval()


@every_encoder_and_pooling
def test_a_loaded_classifier_gives_the_same_bits(encoder, pooling, tmp_path):
    model = made(encoder, pooling, labels=["no", "maybe", "yes"])
    model.save(tmp_path)
    for loaded in (minitransformer.load(tmp_path), SequenceClassifier.load(tmp_path)):
        assert isinstance(loaded, SequenceClassifier)
        assert loaded.config == model.config
        assert loaded.config.labels == ("no", "maybe", "yes")
        ids = torch.randint(5, VOCAB, (2, 6))
        assert torch.equal(loaded(ids), model(ids))
        assert loaded.num_parameters() == model.num_parameters()


@every_encoder_and_pooling
def test_padding_wherever_it_stands_changes_nothing(encoder, pooling):
    model = made(encoder, pooling)
    rows = [torch.randint(5, VOCAB, (length,)) for length in (3, 6, 1, 4)]
    alone = torch.cat([model(row[None]) for row in rows])
    for where in ("left", "right", "scattered", "mixed"):
        valid = layout([len(row) for row in rows], where)
        ids = torch.randint(VOCAB, valid.shape)
        ids[valid] = torch.cat(rows)
        assert_close(model(ids, valid), alone)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_saved_tensor_takes_part(encoder, tmp_path):
    model = made(encoder, "attention")
    model.save(tmp_path)
    batch = {"ids": torch.randint(5, VOCAB, (4, 6)), "labels": torch.tensor([0, 1, 2, 1])}
    model.loss(batch)["label"].total.backward()
    assert load_file(tmp_path / "model.safetensors").keys() == dict(model.named_parameters()).keys()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


class OwnBERT(BERT):
    """A user's subclass that computes something else."""

    def encode(self, ids, valid=None, segment_ids=None):
        memory = super().encode(ids, valid, segment_ids)
        return memory._replace(states=2 * memory.states)


class OwnEncoder(torch.nn.Module):
    """An encoder that is no model of the library's: an embedding and dropout."""

    def __init__(self, config=None):
        super().__init__()
        self.config = config
        self.embedding = torch.nn.Embedding(VOCAB, 8)
        self.dropout = torch.nn.Dropout(0.5)

    def encode(self, ids, valid=None):
        return Memory(self.dropout(self.embedding(ids)), torch.ones_like(ids).bool() if valid is None else valid)


OWN = {
    "subclass": lambda: OwnBERT(bert(dropout=0.5).config),
    "module": lambda: OwnEncoder(SimpleNamespace(d_model=8)),
}


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", OWN)
def test_an_encoder_of_ones_own_is_classified_by_its_states(name, pooling):
    encoder = OWN[name]().eval()
    model = SequenceClassifier(encoder, 3, pooling=pooling).eval()
    valid = layout([6, 3], "right")
    ids = torch.randint(5, VOCAB, valid.shape)
    pooled = model.pooling(encoder.encode(ids, valid).states, valid)
    if name == "subclass" and pooling == "first":
        pooled = encoder.pool(pooled[:, None])
    assert_close(model(ids, valid), model.output(pooled))


@pytest.mark.parametrize("name", OWN)
def test_a_classifier_of_an_encoder_of_ones_own_is_saved_and_refused_when_loaded(name, tmp_path):
    model = SequenceClassifier(OWN[name](), 2)
    model.save(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == dict(model.named_parameters()).keys()
    with pytest.raises(InputError, match=rf"config\.json: the encoder is a '{type(OWN[name]()).__name__}'"):
        minitransformer.load(tmp_path)


@pytest.mark.parametrize("build", [lambda: bert(dropout=0.5), lambda: fresh_gpt(dropout=0.5), *OWN.values()])
def test_the_modes_of_a_classifier_and_of_the_encoder_handed_in_are_independent(build):
    encoder, ids = build().train(), torch.randint(5, VOCAB, (2, 6))
    classifier = SequenceClassifier(encoder, 2).eval()
    assert torch.equal(classifier(ids), classifier(ids))
    assert not torch.equal(encoder.encode(ids).states, encoder.encode(ids).states)
    encoder.eval()
    classifier.train()
    assert torch.equal(encoder.encode(ids).states, encoder.encode(ids).states)
    assert not torch.equal(classifier.encode(ids).states, classifier.encode(ids).states)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_model_handed_in_stays_whole_and_shares_its_parameters(encoder):
    encoder = ENCODERS[encoder]()
    names = list(encoder.state_dict())
    shared = {id(parameter) for parameter in SequenceClassifier(encoder, 2).encoder.parameters()}
    assert shared <= {id(parameter) for parameter in encoder.parameters()}
    assert list(encoder.state_dict()) == names


def test_bert_with_its_pooler_equals_bert_for_sequence_classification(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    sizes = dict(vocab_size=VOCAB, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    config = BertConfig(**sizes, max_position_embeddings=16, num_labels=3, attn_implementation="eager")
    theirs = nudged(BertForSequenceClassification(config)).eval()
    theirs.bert.save_pretrained(tmp_path)
    ours = SequenceClassifier(BERT.from_pretrained(tmp_path), 3, pooling="first").eval()
    with torch.no_grad():
        ours.output.load_state_dict(theirs.classifier.state_dict())
    valid = layout([3, 6, 1], "right")
    ids, segment_ids = torch.randint(5, VOCAB, valid.shape), torch.randint(2, valid.shape)
    labels = torch.tensor([2, 0, 1])
    their_output = theirs(ids, valid.long(), segment_ids, labels=labels)
    assert_close(ours(ids, valid, segment_ids), their_output.logits)
    loss = ours.loss({"ids": ids, "valid": valid, "segment_ids": segment_ids, "labels": labels})["label"]
    assert_close(loss.total / loss.count, their_output.loss)
    (loss.total / loss.count).backward()
    their_output.loss.backward()
    their_layer = theirs.bert.encoder.layer[0]
    their_queries = [getattr(their_layer.attention.self, name).weight for name in ("query", "key", "value")]
    pairs = [
        (ours.output.weight, [theirs.classifier.weight]),
        (ours.encoder.pooler.weight, [theirs.bert.pooler.dense.weight]),
        (ours.encoder.embedding.weight, [theirs.bert.embeddings.word_embeddings.weight]),
        (ours.encoder.segments.weight, [theirs.bert.embeddings.token_type_embeddings.weight]),
        (ours.encoder.encoder.layers[0].attention.project_in.weight, their_queries),
        (ours.encoder.encoder.layers[0].feed_forward.expand.bias, [their_layer.intermediate.dense.bias]),
    ]
    for our_parameter, their_parameters in pairs:
        expected = torch.cat([parameter.grad for parameter in their_parameters])
        if our_parameter is ours.encoder.embedding.weight:
            # Theirs gives the row of padding no gradient; ours had none to give, for no token of these is 0.
            assert not our_parameter.grad[0].any()
        assert_close(our_parameter.grad, expected)


def test_the_last_state_of_a_recurrent_encoder_is_that_of_each_direction():
    torch.manual_seed(0)
    model = made("rnn", "last")
    row = torch.randint(5, VOCAB, (1, 6))
    memory = model.encoder.encode(row)
    forward, backward = memory.states[:, -1, :8], memory.states[:, 0, 8:]
    assert_close(model(row), model.output(torch.cat([forward, backward], dim=1)))


def test_the_loss_is_smoothed_in_training_only():
    model = SequenceClassifier(bert(dropout=0.0), 3, label_smoothing=0.3, dropout=0.0).eval()
    batch = {"ids": torch.randint(5, VOCAB, (2, 6)), "labels": torch.tensor([2, 0])}
    log_p = model(batch["ids"]).log_softmax(dim=1)
    plain = -log_p[[0, 1], batch["labels"]].sum()
    assert_close(model.loss(batch)["label"].total, plain)
    assert model.loss(batch)["label"].count == 2
    model.train()
    assert_close(model.loss(batch)["label"].total, 0.7 * plain - 0.3 * log_p.mean(dim=1).sum())


def test_the_head_begins_near_zero_and_the_encoder_is_left_alone():
    encoder = bert(d_model=64)
    before = encoder.embedding.weight.clone()
    model = SequenceClassifier(encoder, 50, pooling="attention")
    assert torch.equal(model.encoder.embedding.weight, before)
    assert abs(model.output.weight.mean().item()) < 0.002
    assert model.output.weight.std().item() == pytest.approx(0.02, rel=0.1)
    bound = (6 / 128) ** 0.5
    assert model.pooling.project_key.weight.abs().max().item() == pytest.approx(bound, rel=0.05)
    for parameter in (model.output.bias, model.pooling.query, model.pooling.project_key.bias):
        assert not parameter.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_labels=1), "num_labels=1 must be at least 2"),
        (dict(labels=["a"]), r"labels=\['a'\] are not num_labels=2 different names"),
        (dict(labels=["a", "a"]), r"labels=\['a', 'a'\] are not num_labels=2 different names"),
        (dict(pooling="sum"), "pooling='sum' must be one of first, last, mean, max, attention"),
        (dict(dropout=1.5), r"dropout=1\.5 must be at least 0 and at most 1"),
        (
            dict(encoder=SequenceClassifier(fresh_gpt(), 2)),
            r"a SequenceClassifier has no config\.d_model",
        ),
        (dict(encoder=OwnEncoder()), r"a OwnEncoder has no config\.d_model: give the width of its states"),
        (dict(encoder=torch.nn.Linear(2, 2)), r"a Linear has no method encode\(ids, valid\) -> Memory"),
        (dict(encoder=tiny_rnn(masked=False)), "masked=False"),
    ],
)
def test_impossible_classifiers_are_refused(options, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users run without it
    options = {"encoder": fresh_gpt(), "num_labels": 2, **options}
    encoder, num_labels = options.pop("encoder"), options.pop("num_labels")
    with pytest.raises(InputError, match=message):
        SequenceClassifier(encoder, num_labels, **options)


def test_segments_are_refused_where_they_make_no_sense():
    ids = torch.randint(5, VOCAB, (1, 3))
    with pytest.raises(InputError, match="a GPT has no segments"):
        made("gpt", "mean")(ids, None, torch.zeros_like(ids))


def test_a_bert_that_has_lost_its_pooler_is_pooled_without():
    encoder = made("bert", "mean").encoder
    again = SequenceClassifier(encoder, 2, pooling="first").eval()
    assert not again.uses_pooler
    ids = torch.randint(5, VOCAB, (2, 6))
    assert_close(again(ids), again.output(encoder.encode(ids).states[:, 0]))
