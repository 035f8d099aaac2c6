import pytest
import torch

from minitransformer import InputError, RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig
from minitransformer.tokenization import train_character_tokenizer
from minitransformer.translation import Translator

TOKENIZER = train_character_tokenizer(["abcdefgh "])
SIZES = dict(source_vocab_size=13, target_vocab_size=13, d_model=8, max_length=20)


def endless():
    """A translator whose model never chooses to stop."""
    model = RNNSeq2Seq(RNNConfig(**SIZES, hidden_size=8)).eval()
    with torch.no_grad():
        model.output.bias[:4] = -1e9
    return Translator(model, TOKENIZER, TOKENIZER)


def test_a_line_is_translated_alike_alone_and_beside_longer_ones():
    translator = endless()
    lines = ["ab", "abcdefgh", "", "h"]
    together = translator(lines)
    assert together == [translator([line])[0] for line in lines]
    assert [len(text) for text in together] == [53, 59, 0, 52]  # 50 more than the source, which ends in EOS


def test_small_batches_give_what_one_batch_gives():
    whole = endless()
    lines = ["ab", "abcdefgh", "c d", "h"]
    assert Translator(whole.model, TOKENIZER, TOKENIZER, batch_tokens=1)(lines) == whole(lines)


def test_learned_positions_bound_the_translation():
    config = TransformerConfig(
        **SIZES, num_heads=2, d_ff=8, num_encoder_layers=1, num_decoder_layers=1, positions="learned"
    )
    translator = Translator(Transformer(config).eval(), TOKENIZER, TOKENIZER)
    assert len(translator(["abcdefgh"])[0]) <= 20
    _, source, target, weights = translator.attention_map("abc")
    assert source == ["a", "b", "c", "[EOS]"]
    assert weights.shape == (2, len(target), 4)


def test_unknown_characters_are_counted_for_translations_and_maps():
    translator = endless()
    with pytest.warns(UserWarning, match=r"3 characters .*'z' \(2\)"):
        translator(["azz", "b?"])
    with pytest.warns(UserWarning, match="1 characters"):
        translator.attention_map("az")


def test_a_line_over_the_limit_is_named():
    with pytest.raises(InputError, match="line 2 has 20 tokens, but the model reads 19"):
        endless()(["a", "a" * 20])


def test_a_saved_translator_translates_alike(tmp_path):
    translator = endless()
    translator.save(tmp_path)
    assert Translator.load(tmp_path)(["abc"]) == translator(["abc"])


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
    endless().save(tmp_path)
    train_character_tokenizer(["abc"]).save(str(tmp_path / "target_tokenizer.json"))
    with pytest.raises(InputError, match="has 7 tokens, its model has 13"):
        Translator.load(tmp_path)
