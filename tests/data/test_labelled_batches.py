import datasets
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from minitransformer.data.labelled_batches import LabelledData
from minitransformer.text_encoding import encode_texts, pad
from minitransformer.tokenization import train_character_tokenizer, train_wordpiece_tokenizer

TEXTS = ["a b", "b", "é a b a b a", "[SEP] b", "ab", ""]
CHARACTERS, PIECES = train_character_tokenizer(TEXTS), train_wordpiece_tokenizer(TEXTS, 40)
some = st.lists(st.tuples(st.sampled_from(TEXTS), st.integers(0, 3)), min_size=1, max_size=12)


@given(rows=some, tokenizer=st.sampled_from([CHARACTERS, PIECES]), max_length=st.integers(3, 15), data=st.data())
def test_a_batch_holds_its_texts_as_an_encoder_reads_them_and_their_labels(rows, tokenizer, max_length, data):
    expected, cut, _ = encode_texts([text for text, _ in rows], tokenizer, max_length)
    texts, labels = map(list, zip(*rows, strict=True))
    split = datasets.Dataset.from_dict({"text": texts, "label": labels})
    cutting = Tokenizer.from_str(tokenizer.to_str())
    cutting.enable_truncation(3)
    encoded = LabelledData(split, cutting, max_length, pad_id=7)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    batch = encoded.batch(chosen)
    assert torch.equal(batch["ids"], pad([expected[row] for row in chosen], 7))
    assert batch["labels"].tolist() == [rows[row][1] for row in chosen]
    real = pad([[1] * len(expected[row]) for row in chosen], 0).bool()
    assert torch.equal(batch["valid"], real) if "valid" in batch else real.all()
    assert (len(encoded), encoded.cut) == (len(rows), cut)
    assert encoded.lengths.tolist() == list(map(len, expected))
    assert sorted(row for batch in encoded.batches(20, seed=0) for row in batch) == list(range(len(rows)))
