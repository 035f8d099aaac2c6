"""What texts look like: sentences or short strings, in scripts with and without spaces."""

import datasets
import pytest

from minitransformer.data.dates import date_pairs
from minitransformer.data.recall import recall_pairs
from train.translate.texts import SAMPLE, are_sentences, bleu_tokenizer, is_of_sentences, sample, words

SHORT = {
    "Go.": "Geh.",
    "I won!": "Ich hab gewonnen!",
    "Tom lies": "Tom lügt",
    "We lost again": "Wir haben wieder verloren",
    "It's cold today.": "Heute ist es kalt.",
}
"""As the first lines of a file of pairs for learners."""


def test_words_come_without_punctuation_keep_their_marks_and_are_letters_where_there_are_no_spaces():
    assert words("„Ein T-Shirt“, l'homme & Tom’s dog: 3.") == ["Ein", "T-Shirt", "l'homme", "Tom’s", "dog", "3"]
    assert words("हिन्दी cafe\u0301") == ["हिन्दी", "cafe\u0301"]
    assert words("?! …") == ["?!", "…"]
    assert words("我走, OK 東京へ") == ["我", "走", "OK", "東", "京", "へ"]
    assert words("ไม่รู้") == ["ไ", "ม่", "รู้"]


@pytest.mark.parametrize(("source", "target"), [
    ("Go.", "¿Qué?"), ("we lost again", "biz kaybettik"), ("I don't know", "我不知道"), ("他走了。", "He left."),
    ("let us go then", "行きましょう"), ("that is not so", "ฉันไม่รู้"), ("I am a student.", "나는 학생입니다."),
    ("मैं घर जाता हूँ।", "I go home."), ("„Ja.“", "Yes!"),
])  # fmt: skip
def test_short_sentences_of_many_scripts_are_sentences(source, target):
    assert is_of_sentences(source, target) and is_of_sentences(target, source)


@pytest.mark.parametrize(("source", "target"), [
    ("", "we lost again"), ("house", "Haus"), ("Barack Obama", "Барак Обама"), ("Obama", "奥巴马"),
    ("friday october 20 1995", "vendredi 20 octobre 1995"), ("monday the first of may", "1995-10-20"),
    ("international", "IH N T ER N AE SH AH N AH L"), ("a b c d.", "d c b a."), ("3 + 4 = 7.", "seven."),
])  # fmt: skip
def test_names_dates_codes_and_numbers_are_not(source, target):
    assert not is_of_sentences(source, target) and not is_of_sentences(target, source)


def test_short_pairs_are_sentences_and_dates_and_recall_are_not():
    assert are_sentences(list(SHORT.items()))
    assert are_sentences([(f"第{n}天我们去学校。", f"{n}日目に学校へ行きます。") for n in range(50)])
    assert not are_sentences([(source, target) for source, target, _ in date_pairs(200, seed=1)])
    assert not are_sentences(recall_pairs(100))
    assert not are_sentences([("Wort", "word"), ("Haus", "house")])
    # A few whole targets that return are labels.
    commands = [(f"please switch on lamp number {n} in the hall", f"turn on the lamp {n % 3}") for n in range(60)]
    assert not are_sentences(commands)


@pytest.mark.parametrize("pairs", [list(SHORT.items()) * 20, [(s, t) for s, t, _ in date_pairs(100, seed=1)]])
@pytest.mark.parametrize("row", [("word " * 5000 + "end.", "wort " * 5000 + "ende."), ("x", "y")])
def test_one_row_more_changes_nothing(pairs, row):
    split, longer = (
        datasets.Dataset.from_dict({"source": [s for s, _ in rows], "target": [t for _, t in rows]})
        for rows in (pairs, [*pairs, row])
    )
    assert are_sentences(sample(split)) == are_sentences(sample(longer))


def test_a_sample_has_distinct_pairs_from_all_over_the_data():
    numbers = [str(n // 2) for n in range(3 * SAMPLE)]
    pairs = sample(datasets.Dataset.from_dict({"source": numbers, "target": numbers}))
    assert len(pairs) == len(set(pairs)) <= SAMPLE
    assert int(pairs[-1][0]) > 1.49 * SAMPLE


@pytest.mark.parametrize(
    ("targets", "tokenizer"),
    [
        (["A man sleeps.", "日本"], "13a"),
        (["나는 학생입니다."], "13a"),
        (["मैं घर जाता हूँ।"], "13a"),
        (["我们去 IBM 公司上班。", "好"], "zh"),
        (["请安装 PyTorch 2 版和 CUDA Toolkit 驱动。"], "zh"),
        (["Beijing (北京) is a large city."], "13a"),
        (["東京へ行きます。"], "char"),
        (["PyTorch と TensorFlow をインストールします。"], "char"),
        (["ฉันไม่รู้"], "char"),
        ([], "13a"),
    ],
)
def test_bleu_counts_the_tokens_of_the_targets_script(targets, tokenizer):
    assert bleu_tokenizer(targets) == tokenizer
