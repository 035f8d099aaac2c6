"""Checkpoints of BERT, RoBERTa and ALBERT against transformers, which writes what we read and reads what we write."""

import json
import warnings

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from helpers_bert import CASES, IDS, batch, nudged, ours_of, saved, their_outputs, theirs_of
from helpers_checkpoints import edit_config, edit_tensors, refused
from safetensors.torch import load_file
from transformers import (
    AlbertConfig,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    RobertaConfig,
    RobertaModel,
    pipeline,
)

import minitransformer
from minitransformer import BERT, BERTConfig, InputError
from minitransformer.data.corpora import minilm
from minitransformer.models.weights import own_tensors
from minitransformer.pretrained import ALBERTHubConfig, BERTHubConfig, RoBERTaHubConfig
from minitransformer.tokenization import (
    encode_with_masks,
    load_tokenizer,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
)


def read_quietly(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return BERT.from_pretrained(folder)


def assert_same_outputs(ours, theirs):
    ids, valid, segments = batch(ours)
    tokens, sentence = their_outputs(theirs, ids, valid, segments)
    states = ours(ids, valid, segments)
    results = [(ours.predict_tokens(states[valid]), tokens[valid])]
    if sentence is not None:
        results.append((ours.predict_sentence(states), sentence))
    for mine, other in results:
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


def assert_same_states(ours, theirs):
    ids, valid, segments = batch(ours)
    expected = theirs(ids, attention_mask=valid.long(), token_type_ids=segments)
    states = ours(ids, valid, segments)
    torch.testing.assert_close(states[valid], expected.last_hidden_state[valid], rtol=0, atol=1e-5)
    if ours.config.pooler:
        torch.testing.assert_close(ours.pool(states), expected.pooler_output, rtol=0, atol=1e-5)


def assert_same_token_logits(ours, theirs):
    ids, valid, segments = batch(ours)
    expected = theirs(ids, attention_mask=valid.long(), token_type_ids=segments).logits
    logits = ours.predict_tokens(ours(ids, valid, segments))
    torch.testing.assert_close(logits[valid], expected[valid], rtol=0, atol=1e-5)


# Reading


@pytest.mark.parametrize("case", CASES)
def test_a_read_checkpoint_has_the_outputs_of_transformers_and_is_exported_as_they_would(case, tmp_path):
    theirs = theirs_of(case)
    ours = read_quietly(saved(theirs, tmp_path / "theirs"))
    assert not ours.training
    assert_same_outputs(ours, theirs)
    assert type(minitransformer.load(tmp_path / "theirs")) is BERT

    ours.export(tmp_path / "ours")
    mine, other = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    mine, other = (json.loads((tmp_path / name / "config.json").read_text("utf-8")) for name in ("ours", "theirs"))
    assert [name for name in mine.keys() - IDS.keys() if mine[name] != other.get(name)] == []


@pytest.mark.parametrize("case", ["BERT", "RoBERTa", "ALBERT of two groups"])
def test_every_setting_is_read(case, tmp_path):
    rates = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3, "layer_norm_eps": 0.5}
    ours = read_quietly(saved(theirs_of(case, **rates), tmp_path))
    assert ours.config == ours_of(case, dropout=0.2, attention_dropout=0.3, norm_eps=0.5).config


@pytest.mark.parametrize(
    ("ours", "theirs", "preset"),
    [
        (BERTHubConfig, BertConfig, BERTConfig.bert_base()),
        (RoBERTaHubConfig, RobertaConfig, BERTConfig.roberta_base()),
        (ALBERTHubConfig, AlbertConfig, BERTConfig.albert_xxlarge()),
    ],
)
def test_settings_left_out_have_the_values_they_have_in_transformers(ours, theirs, preset):
    ours, theirs = ours.from_json({}).to_dict(), theirs().to_dict()
    shared = ours.keys() & theirs.keys()
    assert len(shared) > 12
    assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}
    assert set(ours) - shared <= {"cls_token_id", "sep_token_id", "mask_token_id"}
    assert [preset.cls_id, preset.sep_id, preset.mask_id] == [ours[key] for key in IDS]


def with_buffers(folder):
    edit_tensors(
        folder,
        lambda t: t.update(
            {
                "bert.embeddings.position_ids": torch.arange(16)[None],
                "cls.predictions.decoder.weight": t["bert.embeddings.word_embeddings.weight"].clone(),
                "cls.predictions.decoder.bias": t["cls.predictions.bias"].clone(),
            }
        ),
    )


def of_old_names(folder):
    def rename(tensors):
        for name in list(tensors):
            if "LayerNorm." in name:
                new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
                tensors[new] = tensors.pop(name)

    edit_tensors(folder, rename)


def half(folder):
    edit_tensors(folder, lambda t: t.update({name: tensor.double() for name, tensor in t.items()}))


@pytest.mark.parametrize("change", [with_buffers, of_old_names, half])
def test_every_layout_of_a_checkpoint_is_read(change, tmp_path):
    theirs = theirs_of("BERT")
    change(saved(theirs, tmp_path))
    assert_same_outputs(read_quietly(tmp_path), theirs)


BOTH = "masked-token head and no sentence head"


@pytest.mark.parametrize(("case", "heads"), [("BERT", BOTH), ("RoBERTa", "masked-token head"), ("ALBERT", BOTH)])
def test_a_body_gets_new_heads_and_says_so(case, heads, tmp_path):
    theirs = theirs_of(case)
    body = getattr(theirs, theirs.base_model_prefix)
    saved(body, tmp_path)
    with pytest.warns(UserWarning, match=f"has no {heads}: it gets new random weights") as caught:
        ours = BERT.from_pretrained(tmp_path)
    assert len(caught) == 1
    assert_same_states(ours, body)
    head = ours.masked_head.project.weight.detach()
    assert 0.01 < head.std() < 0.03
    assert (ours.masked_head.norm.weight == 1).all()


def test_a_body_without_a_pooler_is_read(tmp_path):
    theirs = theirs_of("BERT")
    body = BertModel(theirs.config, add_pooling_layer=False).eval()
    saved(body, tmp_path)
    with pytest.warns(UserWarning, match="has no masked-token head: it gets new random weights"):
        ours = BERT.from_pretrained(tmp_path)
    assert (ours.config.pooler, ours.config.sentence_head) == (False, None)
    assert_same_states(ours, body)


def test_a_model_of_masked_tokens_alone_is_read_as_that(tmp_path):
    theirs = nudged(BertForMaskedLM(theirs_of("BERT").config))
    ours = read_quietly(saved(theirs, tmp_path))
    assert (ours.config.pooler, ours.config.sentence_head) == (False, None)
    assert_same_token_logits(ours, theirs)


# Special tokens, which their config.json leaves to the tokenizer

TEXTS = ["To be, or not to be: that is the question.", "I'd say yes. Yes! No, never; to the end of the world."] * 4


@pytest.mark.parametrize("case", ["BERT", "RoBERTa"])
def test_ids_of_special_tokens_are_those_of_the_tokenizer(case, tmp_path):
    train = train_wordpiece_tokenizer if case == "BERT" else train_roberta_tokenizer
    tokenizer = train(TEXTS, 300)
    theirs_of(case, vocab_size=300).save_pretrained(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = read_quietly(tmp_path).config
    names = ("[CLS]", "[SEP]", "[MASK]") if case == "BERT" else ("<s>", "</s>", "<mask>")
    assert (config.cls_id, config.sep_id, config.mask_id) == tuple(map(tokenizer.token_to_id, names))


def test_usual_ids_of_special_tokens_are_taken_where_nothing_names_them(tmp_path):
    theirs_of("BERT", vocab_size=104).save_pretrained(tmp_path)
    config = read_quietly(tmp_path).config
    assert (config.cls_id, config.sep_id, config.mask_id) == (101, 102, 103)


@pytest.mark.parametrize("case", ["BERT", "RoBERTa", "ALBERT"])
def test_a_vocabulary_without_the_usual_ids_is_read_with_a_warning(case, tmp_path):
    theirs = theirs_of(case, **({"vocab_size": 4} if case == "ALBERT" else {}))
    theirs.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"neither config.json nor a tokenizer.json gives .*mask_token_id="):
        config = BERT.from_pretrained(tmp_path).config
    assert len({config.pad_id, config.cls_id, config.sep_id, config.mask_id}) == 4


# What can be wrong with a checkpoint

WORDS = "bert.embeddings.word_embeddings.weight"
KEY = "bert.encoder.layer.1.attention.self.key.weight"
WRONG = {  # beside what `test_gpt2.py` shows of every checkpoint
    "another architecture": (
        lambda f: edit_config(f, model_type="gpt2"),
        ["a checkpoint of 'gpt2'", "BERT reads 'bert', 'roberta', 'albert'"],
    ),
    "no padding": (lambda f: edit_config(f, pad_token_id=None), ["pad_token_id=None must be of type int"]),
    "activation": (lambda f: edit_config(f, hidden_act="silu"), ["hidden_act='silu' must be one of gelu_new"]),
    "positions": (
        lambda f: edit_config(f, position_embedding_type="relative_key"),
        ["position_embedding_type='relative_key': only 'absolute' is supported"],
    ),
    "a decoder": (lambda f: edit_config(f, is_decoder=True), ["is_decoder=True: only False is supported"]),
    "inner groups": (lambda f: edit_config(f, inner_group_num=2), ["inner_group_num=2: only 1 is supported"]),
    "untied": (lambda f: edit_config(f, tie_word_embeddings=False), ["tie_word_embeddings=False"]),
    "a layer less": (
        lambda f: edit_config(f, num_hidden_layers=3),
        ["in 16 tensors", "bert.encoder.layer.2.attention.self.query.weight is missing", "and 6 more"],
    ),
    "a missing key": (
        lambda f: edit_tensors(f, lambda t: t.pop(KEY)),
        [f"does not fit the model in 1 tensors: {KEY} is missing"],
    ),
    "half a head": (
        lambda f: edit_tensors(f, lambda t: t.pop("cls.predictions.bias")),
        ["does not fit the model in 1 tensors: cls.predictions.bias is missing"],
    ),
    "an extra": (
        lambda f: edit_tensors(f, lambda t: t.update({"classifier.weight": torch.ones(2, 12)})),
        ["does not fit the model in 1 tensors: classifier.weight is not in the model"],
    ),
    "a wide key": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: torch.ones(16, 12)})),
        [f"{KEY} has shape (16, 12), not (12, 12)"],
    ),
    "another decoder": (
        lambda f: edit_tensors(f, lambda t: t.update({"cls.predictions.decoder.weight": -t[WORDS]})),
        [f"cls.predictions.decoder.weight differs from {WORDS}"],
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_checkpoint_is_refused_in_one_line(wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users run without it
    saved(theirs_of("BERT"), tmp_path)
    refused(WRONG, wrong, tmp_path, BERT.from_pretrained)


# Writing

EXPORTED = {
    **{case: (case, {}) for case in CASES},
    "rates": ("BERT", {"dropout": 0.25, "attention_dropout": 0.5, "norm_eps": 0.1}),
    "tanh": ("BERT", {"activation": "gelu_tanh", "d_ff": None}),
    "three segments": ("BERT", {"num_segments": 3}),
    "RoBERTa of another padding": ("RoBERTa", {"pad_id": 3, "position_offset": 4}),
    "ALBERT of a layer each": ("ALBERT", {"num_hidden_groups": 4}),
}


@pytest.mark.parametrize("variant", EXPORTED)
def test_transformers_reads_an_export_with_the_same_outputs_and_we_with_the_same_bits(variant, tmp_path):
    case, options = EXPORTED[variant]
    ours = ours_of(case, **options)
    theirs, report = CASES[case][0].from_pretrained(ours.export(tmp_path), output_loading_info=True)
    assert not any(report.values())
    assert_same_outputs(ours, theirs)
    assert theirs.num_parameters() == ours.num_parameters()
    config = theirs.config
    assert config.architectures == [CASES[case][0].__name__]
    assert config.hidden_dropout_prob == ours.config.dropout
    assert config.attention_probs_dropout_prob == (options.get("attention_dropout") or ours.config.dropout)

    again = read_quietly(tmp_path)
    assert again.config == ours.config
    mine, other = own_tensors(ours), own_tensors(again)
    assert list(mine) == list(other)
    assert all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize(
    ("case", "options", "reader"),
    [
        ("BERT", {"sentence_head": None}, BertForMaskedLM),
        ("BERT", {"sentence_head": None, "pooler": False}, BertForMaskedLM),
        ("BERT", {"sentence_head": None, "masked_head": False}, BertModel),
        ("RoBERTa", {"pooler": True}, RobertaModel),
    ],
)
def test_a_model_of_other_heads_is_exported_as_what_it_is(case, options, reader, tmp_path):
    ours = ours_of(case, **options)
    ours.export(tmp_path)
    theirs, report = reader.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    if case == "RoBERTa":
        assert read_quietly(tmp_path).config == ours.config
    else:
        assert theirs.config.architectures == [reader.__name__]
    if reader is BertForMaskedLM:
        assert_same_token_logits(ours, theirs)
    else:
        assert_same_states(ours, theirs)


@pytest.mark.parametrize(
    ("case", "changes", "says"),
    [
        ("BERT", {"positions": "rotary", "num_heads": 2}, "BERT's format cannot express positions='rotary'"),
        ("BERT", {"norm": "rmsnorm", "pre_norm": True}, "BERT's .* pre_norm=True, norm='rmsnorm'"),
        ("BERT", {"bias": False, "qk_norm": True}, "BERT's .* bias=False, qk_norm=True"),
        ("BERT", {"activation": "swiglu"}, "BERT's .* activation='swiglu'"),
        ("BERT", {"num_kv_heads": 1}, "BERT's .* num_kv_heads=1"),
        ("BERT", {"num_hidden_groups": 1}, "ALBERT's .* d_embedding=None, .*sentence_head='nsp'"),
        ("BERT", {"d_embedding": 5}, "ALBERT's .* sentence_head='nsp'"),
        ("BERT", {"sentence_head": "sop"}, "ALBERT's .* d_embedding=None"),
        ("RoBERTa", {"position_offset": 3}, "RoBERTa's .* position_offset=3"),
        ("RoBERTa", {"pooler": True, "sentence_head": "nsp"}, "RoBERTa's .* sentence_head='nsp'"),
        ("ALBERT", {"position_offset": 1}, "ALBERT's .* position_offset=1"),
    ],
)
def test_a_model_that_no_format_can_express_is_not_exported(case, changes, says, tmp_path):
    with pytest.raises(InputError, match=says):
        ours_of(case, **changes).export(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def exported_with_tokenizer(case, folder, **options):
    train = train_roberta_tokenizer if case == "RoBERTa" else train_wordpiece_tokenizer
    tokenizer = train(TEXTS, 300)
    ours = ours_of(case, vocab_size=300, max_length=64, **options)
    ours.export(folder, tokenizer)
    return ours, tokenizer


@pytest.mark.parametrize("case", ["BERT", "RoBERTa", "ALBERT"])
def test_transformers_reads_the_tokenizer_of_an_export(case, tmp_path):
    ours, tokenizer = exported_with_tokenizer(case, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS[:2]:
        assert theirs(text).input_ids == tokenizer.encode(text).ids
    c = ours.config
    assert (theirs.pad_token_id, theirs.cls_token_id, theirs.sep_token_id) == (c.pad_id, c.cls_id, c.sep_id)
    assert theirs.mask_token_id == c.mask_id
    rows = theirs(TEXTS[:2], padding=True, return_tensors="pt")
    model = CASES[case][0].from_pretrained(tmp_path)
    states = model.base_model(**rows).last_hidden_state
    valid = rows.attention_mask.bool()
    torch.testing.assert_close(ours(rows.input_ids)[valid], states[valid], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["BERT", "RoBERTa", "ALBERT"])
def test_a_mask_in_a_text_is_one_in_transformers(case, tmp_path):
    ours, tokenizer = exported_with_tokenizer(case, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    mask = "<mask>" if case == "RoBERTa" else "[MASK]"
    for text in ("the {} of love", "{}", "To{} {}{}be", " to  {}  be", "to be\n{}.", "the {} [mask] <MASK>"):
        text = text.replace("{}", mask)
        assert theirs(text).input_ids == encode_with_masks(tokenizer, text)
    # What comes back from their writing reads the same.
    again = AutoTokenizer.from_pretrained(theirs.save_pretrained(tmp_path / "again")[0].rpartition("/")[0])
    assert again(f"the {mask} of love").input_ids == encode_with_masks(tokenizer, f"the {mask} of love")
    # And the file that both share knows no added tokens.
    assert load_tokenizer(tmp_path / "tokenizer.json").to_str() == tokenizer.to_str()
    guesses = pipeline("fill-mask", model=str(tmp_path))(f"the {mask} of love", top_k=3)
    ids = torch.tensor([encode_with_masks(tokenizer, f"the {mask} of love")])
    best = ours.predict_tokens(ours(ids))[ids == ours.config.mask_id].softmax(dim=-1).topk(3)
    assert [guess["token"] for guess in guesses] == best.indices[0].tolist()
    assert [guess["score"] for guess in guesses] == pytest.approx(best.values[0].tolist(), abs=1e-6)


@pytest.mark.parametrize(("case", "segments"), [("BERT", 2), ("ALBERT", 2), ("BERT", 1), ("RoBERTa", 1)])
def test_pairs_have_segments_in_transformers_where_the_model_has_them(case, segments, tmp_path):
    ours, tokenizer = exported_with_tokenizer(case, tmp_path, num_segments=segments)
    pair = AutoTokenizer.from_pretrained(tmp_path)("to be", "that is never", return_tensors="pt")
    expected = tokenizer.encode("to be", "that is never")
    assert pair["input_ids"].tolist() == [expected.ids]
    if segments == 1:
        assert set(pair) == {"input_ids", "attention_mask"}
    else:
        assert pair["token_type_ids"].tolist() == [expected.type_ids]
        assert set(expected.type_ids) == {0, 1}
    states = CASES[case][0].from_pretrained(tmp_path).base_model(**pair).last_hidden_state
    given = pair.get("token_type_ids", torch.zeros_like(pair["input_ids"]))
    torch.testing.assert_close(ours(pair["input_ids"], segment_ids=given), states, rtol=0, atol=1e-5)


# MiniLM

SENTENCES = [
    "A gorgeous, witty, seductive film.",
    "No.",
    "It tries too hard, and it is far too long to be as funny as it believes itself to be from beginning to end.",
]


def embedded(states, valid):
    weights = valid[:, :, None].to(states.dtype)
    return F.normalize((states * weights).sum(dim=1) / weights.sum(dim=1), dim=1)


def test_minilm_gives_the_sentence_embeddings_of_transformers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="no masked-token head and no sentence head"):
        ours = BERT.from_pretrained("minilm")
    tokenizer = load_tokenizer(minilm() / "tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=0)
    encoded = tokenizer.encode_batch(SENTENCES)
    ids = torch.tensor([row.ids for row in encoded])
    valid = torch.tensor([row.attention_mask for row in encoded]).bool()
    assert valid.sum(dim=1).unique().numel() == 3
    theirs = BertModel.from_pretrained(minilm()).eval()
    with torch.no_grad():
        expected = embedded(theirs(ids, attention_mask=valid.long()).last_hidden_state, valid)
        memory = ours.encode(ids)
    assert torch.equal(memory.valid, valid)
    torch.testing.assert_close(embedded(*memory[:2]), expected, rtol=0, atol=1e-5)
    c = ours.config
    assert [c.cls_id, c.sep_id, c.mask_id] == [tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "[MASK]")]


def test_a_folder_of_that_name_comes_before_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = ours_of()
    ours.export("minilm")
    assert BERT.from_pretrained("minilm").config == ours.config
