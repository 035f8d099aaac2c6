import pytest
import torch
from helpers_models import nudged
from helpers_scripts import refused

from minitransformer import (
    BERT,
    GPT,
    BERTConfig,
    Classifier,
    GPTConfig,
    SequenceClassifier,
    record_attention,
)
from minitransformer.__main__ import main as command
from minitransformer.tokenization import train_bpe_tokenizer, train_wordpiece_tokenizer

TEXTS = ["a gorgeous, witty film", "dull", "what a dull, dull film it is", "witty it is"]


def classifier(kind="bert", *, pooling="attention", labels=("bad", "good"), **options):
    torch.manual_seed(0)
    sizes = dict(d_model=8, num_heads=2, num_layers=1, max_length=32, dropout=0.0)
    if kind == "bert":
        tokenizer = train_wordpiece_tokenizer(TEXTS, 45)
        ids = dict(cls_id=2, sep_id=3, mask_id=4)
        encoder = BERT(BERTConfig(vocab_size=tokenizer.get_vocab_size(), **sizes, **ids))
    else:
        tokenizer = train_bpe_tokenizer(TEXTS, 30)
        encoder = GPT(GPTConfig(vocab_size=tokenizer.get_vocab_size(), eos_id=3, **sizes))
    model = SequenceClassifier(encoder, 2, pooling=pooling, labels=labels, **options)
    return Classifier(nudged(model).eval(), tokenizer)


@pytest.mark.parametrize("kind", ["bert", "gpt"])
@pytest.mark.parametrize("batch_tokens", [1, 12, 8192])
def test_a_batch_gives_what_each_text_gives_alone_in_order(kind, batch_tokens):
    one = classifier(kind)
    together = Classifier(one.model, one.tokenizer, batch_tokens).probabilities(TEXTS)
    alone = torch.cat([one.probabilities([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together.sum(dim=1), torch.ones(4))
    for guess, probabilities in zip(one(TEXTS), alone, strict=True):
        assert guess.label == ("bad", "good")[int(probabilities.argmax())]
        assert guess.probability == pytest.approx(probabilities.max().item(), abs=1e-6)


def test_labels_without_names_are_numbers():
    assert {guess.label for guess in classifier(labels=None)(TEXTS)} <= {"0", "1"}


@pytest.mark.parametrize("kind", ["bert", "gpt"])
def test_attention_pooling_is_explained_by_the_weight_of_each_word(kind):
    one = classifier(kind)
    guess, words = one.explain(TEXTS[0])
    assert guess == pytest.approx(one([TEXTS[0]])[0])
    assert sum(weight for _, weight in words) == pytest.approx(1.0, abs=1e-5)
    marks = {"bert": ["[CLS]", "[SEP]"], "gpt": ["[EOS]", "[EOS]"]}[kind]
    assert [words[0][0], words[-1][0]] == marks
    assert [word for word, _ in words[1:-1]] == ["a", "gorgeous", ",", "witty", "film"]
    encoding = one.tokenizer.encode(TEXTS[0], add_special_tokens=False)
    with record_attention(one.model) as maps:
        mark_ids = [one.tokenizer.token_to_id(mark) for mark in marks]
        one.model(torch.tensor([[mark_ids[0], *encoding.ids, mark_ids[1]]]))
    weights = maps["pooling"][0, 0, 0, 1:-1]
    pieces = [place for place, word in enumerate(encoding.word_ids) if word == 1]
    assert len(pieces) > 1
    assert words[2][1] == pytest.approx(weights[pieces].sum().item(), abs=1e-6)


def test_mean_pooling_is_explained_by_parts_that_add_up_to_the_logit():
    one = classifier(pooling="mean")
    guess, words = one.explain(TEXTS[2])
    other = dict(zip(one.labels, one.probabilities([TEXTS[2]])[0].log().tolist(), strict=True))
    bias = one.model.output.bias
    best = one.labels.index(guess.label)
    difference = other[guess.label] - sum(other.values()) / 2
    total = sum(part for _, part in words) + (bias[best] - bias.mean()).item()
    assert total == pytest.approx(difference, abs=1e-5)


def test_a_long_text_is_cut_counted_and_explained_as_far_as_it_was_read():
    one, long = classifier(), "dull film " * 40
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than the 32 tokens that the model reads"):
        cut, _ = one([long, "dull"])
    with pytest.warns(UserWarning, match="longer than the 32 tokens"):
        guess, words = one.explain(long)
    assert guess == pytest.approx(cut)
    assert sum(weight for _, weight in words) == pytest.approx(1.0, abs=1e-5)


def test_classify_prints_labels_and_explains_below_each(tmp_path, capsys):
    folder = classifier().save(tmp_path)
    for arguments, below in ([], []), (["--explain"], ["[CLS]", "dull", "film", "[SEP]"]):
        command(["classify", str(folder), "dull film", *arguments])
        first, *words = capsys.readouterr().out.splitlines()
        label, probability = classifier()("dull film")
        assert first == f"{label}\t{probability:.4f}"
        assert [line.split("\t")[1] for line in words] == below


def test_poolings_that_do_not_weigh_words_explain_nothing(tmp_path, capsys):
    line = refused(capsys, ["classify", str(classifier(pooling="max").save(tmp_path)), "--explain", "a"], command)
    assert "pooling='max' does not weigh words: attention and mean can be explained" in line
