import subprocess
import sys

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer.errors import InputError
from train.translate.translation_scores import bleu, by_length, by_rarest_word, translation_scores, words

REFERENCES = ["A man sleeping in a green room on a couch.", "Two dogs run; one jumps.", "The boy wears headphones."]
OUTPUTS = ["A man sleeps in a green room on a Couch.", "Two dogs run.", ""]

sentence = st.lists(st.sampled_from(["a", "A", "dog", "Dog,", "runs.", "é"]), max_size=8).map(" ".join)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(sentence, sentence), min_size=1, max_size=4))
def test_scores_are_those_of_sacrebleu_for_empty_sentences_too(pairs):
    outputs, references = map(list, zip(*pairs, strict=True))
    scores = translation_scores(outputs, references)
    assert scores.bleu == sacrebleu.corpus_bleu(outputs, [references]).score == bleu(outputs, references)
    assert scores.bleu_lowercase == sacrebleu.corpus_bleu(outputs, [references], lowercase=True).score
    assert scores.chrf == sacrebleu.corpus_chrf(outputs, [references]).score


def test_scores_and_signatures_are_what_the_command_of_sacrebleu_prints(tmp_path):
    scores = translation_scores(OUTPUTS, REFERENCES).to_dict()
    for name, lines in (("out", OUTPUTS), ("ref", REFERENCES)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, flags in (("bleu", []), ("bleu_lowercase", ["-lc"]), ("chrf", ["-m", "chrf"])):
        command = [sys.executable, "-m", "sacrebleu", str(tmp_path / "ref"), "-i", str(tmp_path / "out"), "-f", "text"]
        printed = subprocess.run([*command, *flags, "-w", "6"], capture_output=True, text=True, check=True).stdout
        metric, signature = printed.split(" = ")[0].split("|", 1)
        assert metric in ("BLEU", "chrF2")
        assert f"{scores[name]:.6f}" in printed
        assert scores["signatures"][name] == signature


def test_perfect_is_100_and_case_counts_only_where_it_should():
    assert translation_scores(REFERENCES, REFERENCES).bleu == pytest.approx(100)
    shouted = translation_scores([text.upper() for text in REFERENCES], REFERENCES)
    assert shouted.bleu_lowercase == pytest.approx(100)
    assert shouted.bleu < 50


def test_no_sentences_or_different_numbers_of_them_are_refused():
    with pytest.raises(InputError, match=r"\{'outputs': 0, 'references': 0\}"):
        translation_scores([], [])
    with pytest.raises(InputError, match=r"\{'outputs': 1, 'references': 2\}"):
        bleu(["a"], ["a", "b"])
    with pytest.raises(InputError, match=r"\{'sources': 1, 'outputs': 2, 'references': 2\}"):
        by_length(["a"], ["a", "b"], ["a", "b"])
    with pytest.raises(InputError, match="which has no words"):
        by_rarest_word(["a", " "], ["a", "b"], ["a", "b"], ["a"])


def test_every_sentence_is_in_the_group_of_its_length():
    lengths = [21, 5, 1, 6, 10, 20, 16, 5, 40]  # none of 11 to 15
    sources = [" ".join(["Wort"] * length) + "." for length in lengths]
    references = [f"sentence number {i} has quite a few words" for i in range(len(lengths))]
    outputs = [references[i] if i % 2 else "something else that differs in everything" for i in range(len(lengths))]
    groups = by_length(sources, outputs, references)
    rows = {"1-5": [1, 2, 7], "6-10": [3, 4], "16-20": [5, 6], "21+": [0, 8]}
    assert [(group["words"], group["count"]) for group in groups] == [(name, len(kept)) for name, kept in rows.items()]
    for group, kept in zip(groups, rows.values(), strict=True):
        expected = sacrebleu.corpus_bleu([outputs[i] for i in kept], [[references[i] for i in kept]]).score
        assert group["bleu"] == expected


def test_the_rarest_word_of_the_source_decides_the_group():
    seen = {"eins": 1, "zwei": 2, "drei": 3, "zehn": 10, "elf": 11, "hundert": 100, "mehr": 101}
    training = [word for word, times in seen.items() for _ in range(times)]
    sources = ["Mehr, nie.", "mehr Eins", "zwei", "„drei“ Mehr", "zehn", "elf!", "hundert mehr", "mehr"]
    groups = by_rarest_word(sources, ["a"] * 8, ["a"] * 8, training)
    counts = {group["seen"]: group["count"] for group in groups}
    assert counts == {"never": 1, "1-2": 2, "3-10": 2, "11-100": 2, "101+": 1}
    assert [group["seen"] for group in by_rarest_word(["mehr"], ["a"], ["a"], training)] == ["101+"]


def test_words_come_without_punctuation_and_keep_their_marks():
    assert words("„Ein T-Shirt“, l'homme & Tom’s dog: 3.") == ["Ein", "T-Shirt", "l'homme", "Tom’s", "dog", "3"]
    assert words("हिन्दी cafe\u0301") == ["हिन्दी", "cafe\u0301"]
    assert words("?! …") == ["?!", "…"]
