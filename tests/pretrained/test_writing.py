"""Models of ours, exported: transformers reads them, and their tokenizers."""

from dataclasses import replace

import pytest
import torch
from helpers_hub import ROTARY, assert_same_outputs, class_of, ours_of, read_quietly
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    BertModel,
    GPT2LMHeadModel,
    GPT2Model,
    RobertaModel,
    pipeline,
)

from minitransformer import GPT, InputError
from minitransformer.models.weights import own_tensors
from minitransformer.tokenization import (
    encode_with_masks,
    load_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
)

EXPORTED = {
    "BERT": ("BERT", {"activation": "gelu_tanh", "d_ff": None, "num_segments": 3, "norm_eps": 0.1}),
    "GPT-2": ("GPT-2 of five heads", {"dropout": 0.25, "attention_dropout": 0.5}),
    "RoBERTa of another padding": ("RoBERTa", {"pad_id": 3, "position_offset": 4}),
    **{case: (case, {}) for case in ROTARY},
    "ALBERT of a layer each": ("ALBERT", {"num_hidden_groups": 4}),
}


@pytest.mark.parametrize("variant", EXPORTED)
def test_transformers_reads_an_export_with_the_same_outputs_and_we_with_the_same_bits(variant, tmp_path):
    case, options = EXPORTED[variant]
    ours, folder = ours_of(case, **options), tmp_path / "new" / "folder"
    assert ours.export(str(folder)) == folder
    theirs, report = class_of(case).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert_same_outputs(ours, theirs)
    assert theirs.num_parameters() == ours.num_parameters()
    assert theirs.config.architectures == [class_of(case).__name__]

    again = read_quietly(folder)
    # The format does not tell num_kv_heads=num_heads from the default.
    assert again.config == (ours.config if case in ROTARY else replace(ours.config, num_kv_heads=None))
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
        ("GPT-2", {}, GPT2Model),
    ],
)
def test_a_model_of_other_heads_is_exported_as_what_it_is(case, options, reader, tmp_path):
    ours = ours_of(case, **options)
    ours.export(tmp_path)
    theirs, report = reader.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    if case == "BERT":
        assert theirs.config.architectures == [reader.__name__]
    ids = torch.randint(5, ours.config.vocab_size, (2, 7))
    output = theirs(ids)
    if reader is BertForMaskedLM:
        torch.testing.assert_close(ours.predict_tokens(ours(ids)), output.logits, rtol=0, atol=1e-5)
    else:
        torch.testing.assert_close(ours.encode(ids).states, output.last_hidden_state, rtol=0, atol=1e-5)
    if options.get("masked_head", True):  # a new one is said to need training
        assert read_quietly(tmp_path).config == ours.config
    if options.get("pooler"):
        torch.testing.assert_close(ours.pool(ours(ids)), output.pooler_output, rtol=0, atol=1e-5)


def test_a_model_of_bfloat16_is_exported_as_that(tmp_path):
    ours = ours_of("GPT-2").bfloat16()
    assert GPT2LMHeadModel.from_pretrained(ours.export(tmp_path)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("case", "changes", "says"),
    [
        ("BERT", {"norm": "rmsnorm", "pre_norm": True}, "BERT's format cannot express pre_norm=True, norm='rmsnorm'"),
        ("BERT", {"num_hidden_groups": 1}, "ALBERT's .* d_embedding=None, .*sentence_head='nsp'"),
        ("BERT", {"sentence_head": "sop"}, "ALBERT's .* d_embedding=None"),
        ("RoBERTa", {"pooler": True, "sentence_head": "nsp"}, "RoBERTa's .* sentence_head='nsp'"),
        ("RoBERTa", {"position_offset": 3}, "RoBERTa's .* position_offset=3"),
        ("ALBERT", {"position_offset": 1}, "ALBERT's .* position_offset=1"),
        ("GPT-2", {"positions": "alibi"}, "GPT-2's .* positions='alibi': keep the model with save"),
        ("Llama", {"norm": "layernorm"}, "Llama's .* norm='layernorm'"),
        ("Llama", {"d_model": 14, "head_dim": 4}, "Llama's .* head_dim=4"),
        ("Arcee", {"logit_softcap": 5.0}, "Arcee's .* logit_softcap=5.0"),
        ("Mistral", {"attention_bias": True}, "Mistral's .* attention_bias=True"),
        ("Qwen3", {"sliding_window": 4}, "Qwen3's .* sliding_window=4"),
        ("GPT-2", {"bias": False, "qk_norm": True}, "GPT-2's .* bias=False, qk_norm=True"),
        *((case, {"activation": "swiglu"}, "activation='swiglu'") for case in ("BERT", "GPT-2")),
        *((case, {"num_kv_heads": 1}, "num_kv_heads=1") for case in ("BERT", "GPT-2")),
        ("GPT-2", {"logit_softcap": 5.0}, "GPT-2's .* logit_softcap=5.0"),
    ],
)
def test_a_model_that_no_format_can_express_is_not_exported(case, changes, says, tmp_path):
    with pytest.raises(InputError, match=says):
        ours_of(case, **changes).export(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_export_replaces_another_export_but_no_saved_model(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    ours_of("GPT-2 narrow").export(tmp_path)
    ours = ours_of("GPT-2")
    ours.export(tmp_path)
    assert GPT.from_pretrained(tmp_path).config == ours.config
    files = ["README.md", "config.json", "generation_config.json", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    ours.save(tmp_path)
    with pytest.raises(InputError, match="which would be lost: export elsewhere"):
        ours.export(tmp_path)
    assert GPT.load(tmp_path).config == ours.config


# The tokenizer of an export

TEXTS = ["To be, or not to be : that is the question.", "  I 'd say [PAD] [EOS]\n\tyes . to the end, never of love! "]


@pytest.mark.parametrize("train", [train_character_tokenizer, lambda texts: train_byte_bpe_tokenizer(texts, 290)])
def test_transformers_reads_the_tokenizer_of_a_causal_model(train, tmp_path):
    tokenizer = train(TEXTS)
    pad, end = (tokenizer.token_to_id(token) for token in ("[PAD]", "[EOS]"))
    ours_of("GPT-2", vocab_size=300, eos_id=end).export(tmp_path, tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert theirs(text).input_ids == ids  # without [EOS]: the text is to be continued
        assert theirs.decode(ids) == text
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.bos_token_id) == (pad, end, end)
    assert theirs.model_max_length == 9
    assert tokenizer.encode("be").tokens[-1] == "[EOS]"  # the tokenizer in memory has not changed

    model = GPT2LMHeadModel.from_pretrained(tmp_path)
    settings = model.generation_config
    assert (settings.pad_token_id, settings.eos_token_id, settings.bos_token_id) == (pad, end, end)
    assert model.generate(**theirs("be", return_tensors="pt"), max_new_tokens=2, do_sample=False).shape[0] == 1


def test_the_tokenizer_of_gpt2_is_exported_as_it_is(tmp_path):
    """GPT-2's own has one special token, an added one, which a text may name."""
    tokenizer = train_byte_bpe_tokenizer(TEXTS, 290)
    tokenizer.post_processor = None
    tokenizer.add_special_tokens(["<|endoftext|>"])
    end = tokenizer.token_to_id("<|endoftext|>")
    ours_of("GPT-2", vocab_size=tokenizer.get_vocab_size(), eos_id=end).export(tmp_path, tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = "to be<|endoftext|>or not"
    again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs(text).input_ids == tokenizer.encode(text).ids == again.encode(text).ids
    assert end in theirs(text).input_ids
    assert theirs.eos_token == "<|endoftext|>"


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path):
    tokenizer = train_character_tokenizer(TEXTS)
    with pytest.raises(InputError, match=r"the tokenizer has ids up to \d+, the model only vocab_size=11"):
        ours_of("GPT-2").export(tmp_path / "new", tokenizer)
    with pytest.raises(InputError, match=r"has no token of the model's .*=299"):
        ours_of("GPT-2", vocab_size=300, eos_id=299).export(tmp_path / "new", tokenizer)
    assert not (tmp_path / "new").exists()


SENTENCES = ["To be, or not to be: that is the question.", "No, never; to the end of the world of love."]


def exported_with_tokenizer(case, folder, **options):
    tokenizer = (train_roberta_tokenizer if case == "RoBERTa" else train_wordpiece_tokenizer)(SENTENCES, 300)
    ours = ours_of(case, vocab_size=300, max_length=64, **options)
    ours.export(folder, tokenizer)
    return ours, tokenizer


@pytest.mark.parametrize("case", ["BERT", "RoBERTa", "ALBERT"])
def test_transformers_reads_the_tokenizer_of_a_masked_model_and_its_mask(case, tmp_path):
    ours, tokenizer = exported_with_tokenizer(case, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert load_tokenizer(tmp_path / "tokenizer.json").to_str() == tokenizer.to_str()
    c = ours.config
    assert (theirs.pad_token_id, theirs.cls_token_id, theirs.sep_token_id) == (c.pad_id, c.cls_id, c.sep_id)
    assert theirs.mask_token_id == c.mask_id
    assert theirs(SENTENCES).input_ids == [tokenizer.encode(text).ids for text in SENTENCES]
    rows = theirs(SENTENCES, padding=True, return_tensors="pt")
    valid = rows.attention_mask.bool()
    states = class_of(case).from_pretrained(tmp_path).base_model(**rows).last_hidden_state
    torch.testing.assert_close(ours(rows.input_ids)[valid], states[valid], rtol=0, atol=1e-5)

    mask = "<mask>" if case == "RoBERTa" else "[MASK]"
    for text in ("the {} of love", "{}", "To{} {}{}be", " to  {}  be", "to be\n{}.", "the {} [mask] <MASK>"):
        text = text.replace("{}", mask)
        assert theirs(text).input_ids == encode_with_masks(tokenizer, text)
    # What comes back from their writing reads the same.
    again = AutoTokenizer.from_pretrained(theirs.save_pretrained(tmp_path / "again")[0].rpartition("/")[0])
    text = f"the {mask} of love"
    assert again(text).input_ids == encode_with_masks(tokenizer, text)
    guesses = pipeline("fill-mask", model=str(tmp_path))(text, top_k=3)
    ids = torch.tensor([encode_with_masks(tokenizer, text)])
    best = ours.predict_tokens(ours(ids))[ids == c.mask_id].softmax(dim=-1).topk(3)
    assert [guess["token"] for guess in guesses] == best.indices[0].tolist()
    assert [guess["score"] for guess in guesses] == pytest.approx(best.values[0].tolist(), abs=1e-6)


@pytest.mark.parametrize(("case", "segments"), [("BERT", 2), ("ALBERT", 2), ("BERT", 1), ("RoBERTa", 1)])
def test_pairs_have_segments_in_transformers_where_the_model_has_them(case, segments, tmp_path):
    _, tokenizer = exported_with_tokenizer(case, tmp_path, num_segments=segments)
    pair = AutoTokenizer.from_pretrained(tmp_path)("to be", "that is never")
    expected = tokenizer.encode("to be", "that is never")
    assert pair["input_ids"] == expected.ids
    if segments == 1:
        assert set(pair) == {"input_ids", "attention_mask"}
    else:
        assert pair["token_type_ids"] == expected.type_ids
        assert set(expected.type_ids) == {0, 1}
