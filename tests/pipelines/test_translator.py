import dataclasses
import io
import warnings

import pytest
import torch

from minitransformer import InputError, RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig, Translator, beam_search
from minitransformer.__main__ import lines_of_stream, main
from minitransformer.pipelines.translator import SEPARATE
from minitransformer.tokenization import train_byte_bpe_tokenizer, train_character_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*translations are cut off")
TOKENIZER = train_character_tokenizer(["abcdefgh "])
SIZES = dict(source_vocab_size=13, target_vocab_size=13, d_model=8, max_length=20)


def endless():
    """A translator whose model never chooses to stop."""
    model = RNNSeq2Seq(RNNConfig(**SIZES, hidden_size=8)).eval()
    with torch.no_grad():
        model.output.bias[:4] = -1e9
    return Translator(model, TOKENIZER, TOKENIZER)


def seeing():
    """A translator whose model is random, and stops now and then."""
    sizes = dict(num_heads=2, d_ff=8, num_encoder_layers=1, num_decoder_layers=1)
    torch.manual_seed(3)
    return Translator(Transformer(TransformerConfig(**SIZES, **sizes)).eval(), TOKENIZER, TOKENIZER)


@pytest.mark.parametrize("batch_tokens", [1, 16384])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_line_is_translated_alike_alone_and_beside_longer_ones(beam_size, batch_tokens):
    translator = dataclasses.replace(endless(), batch_tokens=batch_tokens)
    lines = ["ab", "abcdefgh", "", "h"]
    options = dict(beam_size=beam_size, max_new_tokens=4)
    together = translator(lines, **options)
    assert together == [translator(line, **options) for line in lines]
    assert [len(text) for text in together] == [4, 4, 0, 4]


def test_a_translation_may_have_50_tokens_more_than_its_source_which_ends_in_eos():
    assert [len(text) for text in endless()(["ab", "abcdefgh", "", "h"])] == [53, 59, 0, 52]


def test_learned_positions_bound_the_translation():
    config = TransformerConfig(
        **SIZES, num_heads=2, d_ff=8, num_encoder_layers=1, num_decoder_layers=1, positions="learned"
    )
    translator = Translator(Transformer(config).eval(), TOKENIZER, TOKENIZER)
    assert len(translator(["abcdefgh"])[0]) <= 20
    _, source, target, weights = translator.attention_map("abc")
    assert source == ["a", "b", "c", "[EOS]"]
    assert weights.shape == (2, len(target), 4)


def test_lines_over_the_limit_are_cut_and_counted_in_one_warning():
    translator = endless()
    lines = ["a", "b" * 20, "b" * 19, "", "b" * 33]
    with pytest.warns(UserWarning, match="2 of 5 lines are longer than the 19 tokens .* line 2, 5") as warned:
        translations = translator(lines)
    assert len(warned) == 2  # the other is of translations that do not end
    assert translations[1] == translations[2] == translations[4] != ""
    assert translator.encode(["b" * 19])[0][-1] == translator.model.config.eos_id
    with pytest.warns(UserWarning, match="1 of 1 lines"):
        _, source, _, weights = translator.attention_map("a" * 30)
    assert source == ["a"] * 19 + ["[EOS]"]
    assert weights.shape[2] == 20


def test_n_best_lists_are_those_of_beam_search_for_each_line_alone():
    translator, lines = seeing(), ["ab", " ", "c abd", "h"]
    lists = translator.n_best(lines, n_best=3, beam_size=4, alpha=1.0, max_new_tokens=9)
    assert [len(translations) for translations in lists] == [3, 0, 3, 3]
    for line, translations in zip(lines, lists, strict=True):
        if translations:
            ids = torch.tensor(translator.encode([line]))
            options = dict(max_new_tokens=9, beam_size=4, alpha=1.0, n_best=3)
            assert [(each.text, each.score, each.log_probability) for each in translations] == [
                (TOKENIZER.decode(each.ids), pytest.approx(each.score), pytest.approx(each.log_probability))
                for each in beam_search(translator.model, ids, **options)[0]
            ]
    texts = translator(lines, beam_size=4, alpha=1.0, max_new_tokens=9)
    assert texts == [translations[0].text if translations else "" for translations in lists]


def test_lines_come_in_order_before_later_ones_are_translated(monkeypatch):
    translator, lines = dataclasses.replace(endless(), block_lines=2), ["ab", "", "abc", "a", "abcd"]
    stream = translator.stream(lines, beam_size=1, max_new_tokens=3)
    first = [next(stream), next(stream)]
    monkeypatch.setattr(type(translator.model), "start", None)  # what is left is not there yet
    with pytest.raises(TypeError):
        next(stream)
    monkeypatch.undo()
    assert [[each.text for each in found] for found in first] == [[translator(["ab"], max_new_tokens=3)[0]], []]
    assert translator(lines, max_new_tokens=3) == [translator([line], max_new_tokens=3)[0] for line in lines]


def test_a_stream_reads_no_more_lines_than_it_needs_and_warns_of_all_in_the_end():
    read = []
    lines = (read.append(line) or line for line in ["ab", "z" * 20, "", "b" * 21, "zz"])
    stream = dataclasses.replace(endless(), block_lines=2).stream(lines, beam_size=1, max_new_tokens=3)
    next(stream)
    assert read == ["ab", "z" * 20]
    with pytest.warns(UserWarning) as warned:
        assert len(list(stream)) == 4
    assert [str(warning.message).partition(":")[0] for warning in warned] == [
        "2 of 5 lines are longer than the 19 tokens that the model reads, and are cut there",
        "4 of 5 translations are cut off at 3 tokens (max_new_tokens= sets another limit)",
        "22 characters were never seen in training and are read as unknown",
    ]
    assert "line 2, 4" in str(warned[0].message)


def saved_writer_of(text, folder):
    """A model folder whose model writes nothing but the characters of `text`."""
    target = train_character_tokenizer([text])
    model = RNNSeq2Seq(RNNConfig(**SIZES | dict(target_vocab_size=target.get_vocab_size()), hidden_size=8)).eval()
    with torch.no_grad():
        model.output.bias[:4] = -1e9
    return Translator(model, TOKENIZER, target).save(folder)


def test_what_ends_lines_and_columns_is_written_as_spaces(tmp_path, capsys):
    folder = saved_writer_of("\n\r\t\x0b\u2028", tmp_path / "model")
    main(["translate", str(folder), "ab", "", "c"])
    assert [line.strip(" ") for line in capsys.readouterr().out.splitlines()] == ["", "", ""]
    main(["translate", str(folder), "ab", "", "c", "--n-best", "2"])
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "2", "3", "3"]
    assert all(len(row) == 3 and row[2].strip(" ") == "" for row in rows)


def test_a_line_that_is_no_utf_8_stops_a_file_at_once_and_a_pipe_where_it_comes(tmp_path, capsys, monkeypatch):
    folder = saved_writer_of("x", tmp_path / "model")
    data = b"\n" * 2048 + b"\xff\n"  # blank lines, which take no time, as many as are read at once
    (tmp_path / "lines.txt").write_bytes(data)
    with pytest.raises(SystemExit):
        main(["translate", str(folder), "--input", str(tmp_path / "lines.txt")])
    output = capsys.readouterr()
    assert (output.out, "line 2049: byte 0xff" in output.err) == ("", True)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with pytest.raises(SystemExit):
        main(["translate", str(folder)])
    output = capsys.readouterr()
    assert (output.out, "line 2049: byte 0xff" in output.err) == ("\n" * 2048, True)


def test_lines_are_those_between_newlines():
    lines = lines_of_stream(io.BytesIO("\ufeffa\r\n\u2028\x0c\r\n\nb\rc".encode()), "the input")
    assert list(lines) == ["a", "\u2028\x0c", "", "b\rc"]
    assert list(lines_of_stream(io.BytesIO("\ufeff".encode()), "the input")) == []


def test_one_tokenizer_for_both_sides_is_saved_once_and_two_are_two_files(tmp_path):
    shared, other = endless(), train_character_tokenizer(["ABCDEFGH "])
    separate = dataclasses.replace(shared, target_tokenizer=other)
    for translator, expected in ((shared, ["tokenizer.json"]), (separate, [*SEPARATE]), (shared, ["tokenizer.json"])):
        translator.save(tmp_path)
        assert sorted(path.name for path in tmp_path.glob("*tokenizer.json")) == expected
        loaded = Translator.load(tmp_path)
        assert loaded(["abc"]) == translator(["abc"])
        assert (loaded.source_tokenizer is loaded.target_tokenizer) == (translator is shared)
    separate.save(tmp_path)
    shared.target_tokenizer.save(str(tmp_path / "target_tokenizer.json"))  # of another model, and as large
    with pytest.raises(InputError, match=r"target_tokenizer\.json is not the tokenizer that this model was saved with"):
        Translator.load(tmp_path)


def test_translations_that_do_not_end_are_counted_in_one_warning():
    with pytest.warns(UserWarning) as warned:
        endless()(["ab", "", "c"])
    [message] = [str(warning.message) for warning in warned]
    assert message.startswith("2 of 3 translations are cut off at 50 tokens more than their source")
    assert message.endswith(": line 1, 3")
    with pytest.warns(UserWarning, match="1 of 1 translations are cut off at 50 tokens more than their source: line 1"):
        endless().attention_map("ab")


@pytest.mark.parametrize(
    "options", [dict(max_new_tokens=-1), dict(max_new_tokens=10**30), dict(beam_size=2.5)], ids=str
)
def test_numbers_out_of_range_are_refused_whatever_the_text(options, as_users_run_it):
    [(name, value)] = options.items()
    for text in ("ab", ""):
        with pytest.raises(InputError, match=f"{name}={value} must be"):
            endless()(text, **options)


def test_translations_that_end_warn_nobody():
    model = endless().model
    with torch.no_grad():
        model.output.bias[model.config.eos_id] = 1e9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Translator(model, TOKENIZER, TOKENIZER)(["ab", "c"]) == ["", ""]


def test_a_model_knows_its_limit(tmp_path):
    translator = endless()
    model = RNNSeq2Seq(dataclasses.replace(translator.model.config, max_extra_tokens=3)).eval()
    model.load_state_dict(translator.model.state_dict())
    Translator(model, TOKENIZER, TOKENIZER).save(tmp_path)
    assert len(Translator.load(tmp_path)("ab")) == 3 + 3  # the source ends in EOS


def test_the_tokens_of_a_map_spell_the_text(tmp_path):
    text = "naïve 🙂 不是"
    tokenizer = train_byte_bpe_tokenizer(["a good film"], 270)
    size = tokenizer.get_vocab_size()
    model = RNNSeq2Seq(RNNConfig(size, size, d_model=8, hidden_size=8)).eval()
    translation, source, target, _ = Translator(model, tokenizer, tokenizer).attention_map(text)
    assert "".join(source) == text + "[EOS]"
    assert "".join(target).removesuffix("[EOS]") == translation
