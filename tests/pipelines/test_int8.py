"""Pipelines with weights of 8 bits: what is loaded decodes, and what is saved stays as it is."""

import pytest
import torch
from helpers_pipelines import CHARACTERS, SIZE, pipeline

from minitransformer import Completer, InputError, Transformer, TransformerConfig, Translator
from minitransformer.__main__ import main
from minitransformer.int8 import Int8Linear


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_completer_in_8_bits_continues_a_text_and_is_not_saved(tmp_path, capsys):
    folder = pipeline(Completer).save(tmp_path / "saved")
    before = files_of(folder)
    small = Completer.load(folder, torch.int8)
    assert isinstance(small.model.output, Int8Linear)
    assert isinstance(small("the", max_new_tokens=3, temperature=0.0), str)
    with pytest.raises(InputError, match="saving would lose it"):
        small.save(folder)
    main(["generate", str(folder), "--max-new-tokens", "3", "--precision", "int8"])
    assert capsys.readouterr().out and files_of(folder) == before


def test_a_translator_in_8_bits_translates(tmp_path, capsys):
    sizes = {"d_model": 8, "num_heads": 2, "d_ff": 8, "num_encoder_layers": 1, "num_decoder_layers": 1}
    model = Transformer(TransformerConfig(SIZE, SIZE, **sizes)).eval()
    folder = Translator(model, CHARACTERS, CHARACTERS).save(tmp_path / "saved")
    assert isinstance(Translator.load(folder, torch.int8).model.output, Int8Linear)
    main(["translate", str(folder), "--precision", "int8", "the"])
    assert capsys.readouterr().out.count("\n") == 1


def test_a_recurrent_translator_in_8_bits_is_refused(tmp_path):
    folder = pipeline(Translator).save(tmp_path / "saved")
    with pytest.raises(InputError, match="int8 is for Transformers: this RNNSeq2Seq is recurrent"):
        Translator.load(folder, torch.int8)
