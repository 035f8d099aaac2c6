import pytest
import torch
from helpers_models import nudged
from helpers_scripts import refused

from minitransformer import BERT, BERTConfig, InputError, MaskFiller
from minitransformer.__main__ import main as command
from minitransformer.tokenization import train_roberta_tokenizer, train_wordpiece_tokenizer

TEXTS = ["the love of money", "the root of all evil"]


def filler(*, roberta=False, **options):
    torch.manual_seed(0)
    tokenizer = train_roberta_tokenizer(TEXTS, 280) if roberta else train_wordpiece_tokenizer(TEXTS, 60)
    ids = dict(pad_id=1, cls_id=0, sep_id=2, mask_id=4) if roberta else dict(cls_id=2, sep_id=3, mask_id=4)
    sizes = dict(vocab_size=tokenizer.get_vocab_size(), d_model=8, num_heads=2, num_layers=1, max_length=12)
    return MaskFiller(nudged(BERT(BERTConfig(**{**sizes, **ids, **options}))).eval(), tokenizer)


def test_fillings_are_those_of_transformers(tmp_path):
    from transformers import BertForMaskedLM

    one = filler()
    one.model.export(tmp_path, one.tokenizer)
    theirs = BertForMaskedLM.from_pretrained(tmp_path).eval()
    words = [one.tokenizer.encode(word, add_special_tokens=False).ids for word in ("the", "of")]
    ids = torch.tensor([[2, *words[0], 4, *words[1], 4, 3]])
    expected = theirs(ids).logits[0, ids[0] == 4].softmax(dim=1).topk(3)
    ours = one("the [MASK] of [MASK]", top_k=3)
    for gap, probabilities, tokens in zip(ours, expected.values.tolist(), expected.indices.tolist(), strict=True):
        assert [filling.probability for filling in gap] == pytest.approx(probabilities, abs=1e-6)
        for filling, token in zip(gap, tokens, strict=True):
            name = one.tokenizer.id_to_token(token)
            assert filling.token in (name, name.removeprefix("##"))


def test_robertas_mask_is_spelt_its_own_way():
    one = filler(roberta=True, position_offset=2, num_segments=1)
    assert len(one("the <mask> of", top_k=2)[0]) == 2
    with pytest.raises(InputError, match=r"there is no gap in 'the \[MASK\] of': write <mask>"):
        one("the [MASK] of")


def test_fill_mask_prints_tokens_and_probabilities(tmp_path, capsys):
    one = filler()
    command(["fill-mask", str(one.save(tmp_path)), "[MASK] of [MASK]", "--top-k", "2"])
    lines = capsys.readouterr().out.splitlines()
    first, second = one("[MASK] of [MASK]", top_k=2)
    expected = [*first, None, *second]
    assert lines == ["" if each is None else f"{each.token}\t{each.probability:.4f}" for each in expected]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["the love"], "there is no gap in 'the love': write [MASK] where a word is missing"),
        (["[MASK]", "--top-k", "5000"], "--top-k 5000 must be at least 1 and at most"),
        (["[MASK] " * 30], "the text has 32 tokens, but the model reads 12 at most"),
    ],
)
def test_fill_mask_refuses_in_one_line(arguments, message, tmp_path, capsys):
    assert message in refused(capsys, ["fill-mask", str(filler().save(tmp_path)), *arguments], command)


def test_a_bert_without_a_masked_token_head_is_refused(tmp_path):
    filler(masked_head=False).save(tmp_path)
    with pytest.raises(InputError, match="a BERT without a masked-token head, which fills no gaps"):
        MaskFiller.load(tmp_path)
