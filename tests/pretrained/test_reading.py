"""Checkpoints that transformers writes, read as models of ours."""

import json

import pytest
import torch
from helpers_bert import IDS, batch, nudged, saved
from helpers_checkpoints import edit_config, edit_tensors, refusal
from helpers_hub import (
    CASES,
    LLAMA3,
    ROTARY,
    assert_same_gradients_and_files,
    assert_same_outputs,
    ours_of,
    read_quietly,
    theirs_of,
)
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AlbertConfig,
    ArceeConfig,
    AutoConfig,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
    RobertaConfig,
)

import minitransformer
from minitransformer import BERT, GPT, BERTConfig, greedy, kernels
from minitransformer.data.corpora import minilm
from minitransformer.pretrained import (
    ALBERTHubConfig,
    ArceeHubConfig,
    BERTHubConfig,
    GPT2HubConfig,
    LlamaHubConfig,
    MistralHubConfig,
    Qwen3HubConfig,
    RoBERTaHubConfig,
)
from minitransformer.tokenization import load_tokenizer, train_roberta_tokenizer, train_wordpiece_tokenizer


@pytest.mark.parametrize("case", CASES)
def test_a_read_checkpoint_computes_what_transformers_does_and_is_exported_as_they_would(case, tmp_path):
    theirs = theirs_of(case)
    ours = read_quietly(saved(theirs, tmp_path / "theirs"))
    assert not ours.training
    results = assert_same_outputs(ours, theirs)
    upstream = [torch.randn_like(mine) for mine, _ in results]
    for side in (0, 1):
        torch.autograd.backward([result[side] for result in results], upstream)
    assert_same_gradients_and_files(ours, theirs, tmp_path)
    mine, other = (json.loads((tmp_path / name / "config.json").read_text("utf-8")) for name in ("ours", "theirs"))
    # GPT-2's own id is beyond this vocabulary. Of two names of one function, old versions know the other.
    odd = {*IDS, "bos_token_id", *(["activation_function"] if case == "GPT-2 with tanh" else [])}
    assert {name for name in mine if mine[name] != other.get(name)} <= odd | {"rope_theta", "rope_scaling"}
    mine, other = (AutoConfig.from_pretrained(tmp_path / name) for name in ("ours", "theirs"))
    assert getattr(mine, "rope_parameters", None) == getattr(other, "rope_parameters", None)
    with safe_open(tmp_path / "ours" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}  # older versions ask for it


@pytest.mark.parametrize("case", ["GPT-2", *ROTARY])
def test_a_read_checkpoint_writes_the_text_that_transformers_does(case, tmp_path):
    """Rows of different lengths, read and written far beyond the window of a Mistral."""
    theirs = theirs_of(case, **({"n_positions": 24} if case == "GPT-2" else {}))
    ours = read_quietly(saved(theirs, tmp_path))
    ids, valid = torch.randint(9, (3, 7)), torch.arange(7) >= torch.tensor([[0], [3], [6]])
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 10}
    text = theirs.generate(ids, attention_mask=valid.long(), **options)[:, 7:]
    mine = greedy(ours, ids, valid, max_new_tokens=12)
    assert mine.tolist() == text.tolist()
    with kernels.disabled("gpt_step"):
        assert greedy(ours, ids, valid, max_new_tokens=12).tolist() == text.tolist()


RATES = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3, "layer_norm_eps": 0.5}
GPT2_RATES = {"resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.3, "layer_norm_epsilon": 0.5}


@pytest.mark.parametrize("case", ["BERT", "RoBERTa", "ALBERT of two groups", "GPT-2 narrow", *ROTARY])
def test_every_setting_is_read(case, tmp_path):
    theirs = {} if case in ROTARY else GPT2_RATES if "GPT" in case else RATES
    ours = {} if case in ROTARY else {"dropout": 0.2, "attention_dropout": 0.3, "norm_eps": 0.5}
    assert read_quietly(saved(theirs_of(case, **theirs), tmp_path)).config == ours_of(case, **ours).config


@pytest.mark.parametrize(
    ("ours", "theirs", "preset"),
    [
        (BERTHubConfig, BertConfig, BERTConfig.bert_base()),
        (RoBERTaHubConfig, RobertaConfig, BERTConfig.roberta_base()),
        (ALBERTHubConfig, AlbertConfig, BERTConfig.albert_xxlarge()),
        (GPT2HubConfig, GPT2Config, None),
        (LlamaHubConfig, LlamaConfig, None),
        (Qwen3HubConfig, Qwen3Config, None),
        (ArceeHubConfig, ArceeConfig, None),
        (MistralHubConfig, MistralConfig, None),
    ],
)
def test_settings_left_out_have_the_values_they_have_in_transformers(ours, theirs, preset):
    ours, theirs = ours.from_json({}).to_dict(), theirs().to_dict()
    shared = ours.keys() & theirs.keys()
    assert len(shared) > 12
    assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}
    assert set(ours) - shared <= {*IDS, "rope_theta", "rope_scaling"}
    assert preset is None or [preset.cls_id, preset.sep_id, preset.mask_id] == [ours[key] for key in IDS]


def test_other_names_of_gpt2s_settings_are_read(tmp_path):
    theirs = saved(theirs_of("GPT-2", n_head=12), tmp_path)
    edit_config(theirs, n_embd=..., hidden_size=12, n_layer=..., num_hidden_layers=2, n_head=...)
    assert (GPT.from_pretrained(tmp_path).config.d_model, GPT.from_pretrained(tmp_path).config.num_heads) == (12, 12)


# The layouts of a checkpoint


def as_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickled_shards(folder):
    tensors = list(load_file(folder / "model.safetensors").items())
    for file, part in {"a.bin": tensors[:5], "b.bin": tensors[5:]}.items():
        torch.save(dict(part), folder / file)
    weight_map = {name: "a.bin" if i < 5 else "b.bin" for i, (name, _) in enumerate(tensors)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    (folder / "model.safetensors").unlink()


def edited(change):
    return lambda folder: edit_tensors(folder, change)


def of_old_names(tensors):
    for name in list(tensors):
        if "LayerNorm." in name:
            new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[new] = tensors.pop(name)


def without_kind(folder):
    edit_config(folder, model_type=..., architectures=...)


def with_old_rope(folder):
    edit_config(folder, rope_parameters=..., rope_theta=100.0, rope_scaling=LLAMA3 | {"type": "llama3"})


WTE = "transformer.wte.weight"
MASKS = {"bias": torch.ones(1, 1, 9, 9).tril().bool(), "masked_bias": torch.tensor(-1e4)}
LAYOUTS = {
    "pickle": ("GPT-2", as_pickle),
    "pickled shards": ("GPT-2", pickled_shards),
    "masks": ("GPT-2", edited(lambda t: t.update({f"transformer.h.1.attn.{name}": MASKS[name] for name in MASKS}))),
    "head": ("GPT-2", edited(lambda t: t.update({"lm_head.weight": t[WTE].clone()}))),
    "head alone": ("GPT-2", edited(lambda t: t.update({"lm_head.weight": t.pop(WTE)}))),
    "bare": ("GPT-2", edited(lambda t: [t.update({name.partition(".")[2]: t.pop(name)}) for name in list(t)])),
    "buffers": (
        "BERT",
        edited(
            lambda t: t.update(
                {
                    "bert.embeddings.position_ids": torch.arange(16)[None],
                    "cls.predictions.decoder.weight": t["bert.embeddings.word_embeddings.weight"].clone(),
                    "cls.predictions.decoder.bias": t["cls.predictions.bias"].clone(),
                }
            )
        ),
    ),
    **{f"{case} of 2019": (case, without_kind) for case in ("GPT-2", "BERT", "RoBERTa", "ALBERT")},
    "rope as before version 5": ("Llama grouped, tied, of scaled positions", with_old_rope),
    "old names": ("BERT", edited(of_old_names)),
    **{
        str(dtype): (case, edited(lambda t, dtype=dtype: t.update({name: t[name].to(dtype) for name in t})))
        for case, dtype in {"BERT": torch.float64, "GPT-2": torch.bfloat16, "ALBERT": torch.float16}.items()
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_checkpoint_is_read_as_float32(layout, tmp_path):
    case, change = LAYOUTS[layout]
    theirs = theirs_of(case)
    if "float" in layout:
        theirs = theirs.to(getattr(torch, layout.partition(".")[2])).float()
    change(saved(theirs, tmp_path))
    ours = read_quietly(tmp_path)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    assert_same_outputs(ours, theirs)


def test_shards_are_read(tmp_path):
    theirs = theirs_of("GPT-2")
    theirs.save_pretrained(tmp_path, max_shard_size="3KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_same_outputs(read_quietly(tmp_path), theirs)


def test_an_embedding_dropout_of_its_own_is_said_to_be_lost(tmp_path):
    saved(theirs_of("GPT-2", resid_pdrop=0.1, embd_pdrop=0.3), tmp_path)
    with pytest.warns(UserWarning, match=r"resid_pdrop=0.1, not embd_pdrop=0.3"):
        GPT.from_pretrained(tmp_path)


def test_code_that_a_checkpoint_brings_is_said_not_to_be_run(tmp_path):
    edit_config(saved(theirs_of("BERT"), tmp_path), auto_map={"AutoModel": "modeling.Model"})
    with pytest.warns(UserWarning, match=r"names code of its own \(auto_map\), which is not run"):
        BERT.from_pretrained(tmp_path)


# Heads that are missing, and heads of other tasks


def assert_same_states(ours, theirs):
    ids, valid, segments = batch(ours)
    expected = theirs(ids, attention_mask=valid.long(), token_type_ids=segments)
    states = ours(ids, valid, segments)
    torch.testing.assert_close(states[valid], expected.last_hidden_state[valid], rtol=0, atol=1e-5)
    if ours.config.pooler:
        torch.testing.assert_close(ours.pool(states), expected.pooler_output, rtol=0, atol=1e-5)


BOTH = "masked-token head and no sentence head"


@pytest.mark.parametrize(
    ("case", "heads"),
    [("BERT", BOTH), ("RoBERTa", "masked-token head"), ("ALBERT", BOTH), ("no pooler", "masked-token head")],
)
def test_a_body_gets_new_heads_and_says_so(case, heads, tmp_path):
    if case == "no pooler":
        body = BertModel(theirs_of("BERT").config, add_pooling_layer=False).eval()
    else:
        body = theirs_of(case).base_model
    saved(body, tmp_path)
    with pytest.warns(UserWarning, match=f"has no {heads}: it gets new random weights") as caught:
        ours = BERT.from_pretrained(tmp_path)
    assert len(caught) == 1
    assert ours.config.pooler is (heads == BOTH)
    assert_same_states(ours, body)
    head = ours.masked_head.project.weight.detach()
    assert 0.01 < head.std() < 0.03
    assert (ours.masked_head.norm.weight == 1).all()


@pytest.mark.parametrize(
    ("case", "kind", "head"),
    [
        ("BERT", BertForSequenceClassification, "classifier.bias, classifier.weight"),
        ("GPT-2", GPT2ForSequenceClassification, "score.weight"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*has no masked-token head")
def test_a_head_of_another_task_is_left_out_with_a_warning(case, kind, head, tmp_path):
    theirs = kind(theirs_of(case).config).eval()
    saved(theirs, tmp_path)
    with pytest.warns(
        UserWarning, match=rf"\('{kind.__name__}'\) has a head of another task, which is left out"
    ) as caught:
        ours = (BERT if case == "BERT" else GPT).from_pretrained(tmp_path)
    assert str(caught[-1].message).endswith(head)
    if case == "BERT":
        assert_same_states(ours, theirs.bert)
    else:
        ids = torch.arange(7)[None]
        torch.testing.assert_close(ours.encode(ids).states, theirs.transformer(ids).last_hidden_state)


# Special tokens, which config.json leaves to the tokenizer

TEXTS = ["To be, or not to be: that is the question.", "I'd say yes. Yes! No, never; to the end of the world."] * 4


@pytest.mark.parametrize("case", ["BERT", "RoBERTa"])
def test_ids_of_special_tokens_are_those_of_the_tokenizer(case, tmp_path):
    train = train_wordpiece_tokenizer if case == "BERT" else train_roberta_tokenizer
    tokenizer = train(TEXTS, 300)
    theirs_of(case, vocab_size=320).save_pretrained(tmp_path)  # padded: the last ids have no token
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


def test_distilbert_is_read_and_goes_out_as_a_bert_of_one_segment(tmp_path):
    sizes = {"vocab_size": 13, "dim": 12, "n_heads": 3, "n_layers": 2, "hidden_dim": 20, "max_position_embeddings": 16}
    theirs = nudged(DistilBertForMaskedLM(DistilBertConfig(**sizes)))
    theirs.save_pretrained(tmp_path / "theirs")
    edit_config(tmp_path / "theirs", **IDS)
    ours = read_quietly(tmp_path / "theirs")
    ours.export(tmp_path / "ours")
    bert = BertForMaskedLM.from_pretrained(tmp_path / "ours").eval()
    ids, valid = torch.randint(5, 13, (3, 9)), torch.arange(9) < torch.tensor([[9], [5], [2]])
    expected = theirs(ids, attention_mask=valid.long()).logits[valid]
    torch.testing.assert_close(ours.predict_tokens(ours(ids, valid))[valid], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(bert(ids, attention_mask=valid.long()).logits[valid], expected, rtol=0, atol=1e-5)
    classifier = DistilBertForSequenceClassification(theirs.config)
    classifier.save_pretrained(tmp_path / "classifier")
    assert "of 'distilbert', whose classification head has a ReLU" in refusal(
        minitransformer.load, tmp_path / "classifier"
    )


# MiniLM


def test_minilm_is_read_as_transformers_reads_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="no masked-token head and no sentence head"):
        ours = BERT.from_pretrained("minilm")
    assert_same_states(ours, BertModel.from_pretrained(minilm()).eval())
    c, tokenizer = ours.config, load_tokenizer(minilm() / "tokenizer.json")
    assert [c.cls_id, c.sep_id, c.mask_id] == [tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "[MASK]")]


def test_a_folder_of_that_name_comes_before_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = ours_of("BERT")
    ours.export("minilm")
    assert BERT.from_pretrained("minilm").config == ours.config
