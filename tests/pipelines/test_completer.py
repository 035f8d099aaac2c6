"""How a Completer reads the tokenizers of checkpoints of Hugging Face."""

import pytest
from helpers_hub import ours_of
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from minitransformer import Completer
from minitransformer.tokenization import train_byte_bpe_tokenizer


@pytest.mark.parametrize("bos_id", [None, 2])
def test_a_text_begins_with_the_mark_that_its_tokenizer_puts_there(bos_id, tmp_path):
    tokenizer = train_byte_bpe_tokenizer(["to be or not to be"], 280)
    marks = [] if bos_id is None else [("[BOS]", bos_id)]
    tokenizer.post_processor = TemplateProcessing(single="[BOS] $A" if marks else "$A", special_tokens=marks)
    ids = {"eos_id": tokenizer.token_to_id("[EOS]"), "bos_id": bos_id}
    ours_of("Llama", vocab_size=tokenizer.get_vocab_size(), **ids).export(tmp_path, tokenizer)
    theirs, their_tokenizer = (kind.from_pretrained(tmp_path) for kind in (AutoModelForCausalLM, AutoTokenizer))
    ids = their_tokenizer("to be", return_tensors="pt")
    assert (ids.input_ids[0, 0] == 2) == bool(marks)
    whole = theirs.generate(**ids, max_new_tokens=8, do_sample=False)[0].tolist()
    completer = Completer.load(tmp_path)
    assert "to be" + completer("to be", max_new_tokens=8, temperature=0.0) == tokenizer.decode(whole)
