"""The samples of each kind of model: a continuation, translations, filled gaps, labels."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from tokenizers import Tokenizer

from minitransformer.models import BERT, GPT, SequenceClassifier
from minitransformer.pipelines import Classifier, Completer, MaskFiller, Translator
from minitransformer.tokenization import encode_with_masks, masked_specials
from train.engine.samples import Sample

NEW_TOKENS = 100
TRANSLATED, FILLED, LABELLED = 3, 2, 2
LOOKED_AT = 200
"""Texts among which the ones to fill or to label are chosen."""
WORDS = 4
"""A text to label has so many, if there is one."""


def continuation(tokenizer: Tokenizer, seed: int) -> Callable[[GPT], list[Sample]]:
    """What a GPT writes without a prompt, by the same random numbers every time."""

    def write(model: GPT) -> list[Sample]:
        options: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "temperature": 0.8, "seed": seed}
        return [{"sample": Completer(model, tokenizer)([""], **options)[0]}]

    return write


def translations(
    translator: Callable[[Any], Translator], sources: Sequence[str], references: Sequence[str]
) -> Callable[[Any], list[Sample]]:
    """Greedy translations of three texts from all over a split."""
    count = min(TRANSLATED, len(sources))
    rows = [len(sources) * (2 * place + 1) // (2 * count) for place in range(count)]
    chosen, expected = [sources[row] for row in rows], [references[row] for row in rows]

    def translate(model: Any) -> list[Sample]:
        outputs = translator(model)(chosen)
        return [
            {"source": source, "translation": output, "reference": reference}
            for source, output, reference in zip(chosen, outputs, expected, strict=True)
        ]

    return translate


def filled_gaps(tokenizer: Tokenizer, sentences: Iterable[str], context: int) -> Callable[[BERT], list[Sample]]:
    """Two sentences of at most `context` tokens, each with its middle token masked, and what a BERT writes there."""
    gaps: list[Sample] = []
    for sentence in islice(sentences, LOOKED_AT):
        if len(gaps) < FILLED and (gap := with_gap(tokenizer, sentence, context)):
            gaps.append(gap)

    def fill(model: BERT) -> list[Sample]:
        found = MaskFiller(model, tokenizer)([gap["text"] for gap in gaps], top_k=1)
        return [
            {**gap, "filled": f"{best.token} ({best.probability:.0%})"}
            for gap, [[best]] in zip(gaps, found, strict=True)
        ]

    return fill


def with_gap(tokenizer: Tokenizer, sentence: str, context: int) -> Sample | None:
    """The sentence without its middle token, and that token; None if the sentence is too short or too long."""
    encoded = tokenizer.encode(sentence, add_special_tokens=False)
    if not 4 <= len(encoded.ids) <= context - 2:
        return None
    mask = masked_specials(tokenizer)
    start, end = encoded.offsets[len(encoded.ids) // 2]
    text = f"{sentence[:start]}{mask.mask_token}{sentence[end:]}"
    gaps = encode_with_masks(tokenizer, text)
    if gaps.count(mask.mask_id) != 1 or len(gaps) > context:  # the sentence may spell the mask itself
        return None
    return {"text": text, "answer": sentence[start:end]}


def guessed_labels(
    tokenizer: Tokenizer, texts: Iterable[str], labels: Iterable[str]
) -> Callable[[SequenceClassifier], list[Sample]]:
    """The labels that a classifier gives two short texts."""
    looked_at = islice(zip(texts, labels, strict=True), LOOKED_AT)
    chosen = sorted(looked_at, key=lambda pair: (len(pair[0].split()) < WORDS, len(pair[0])))[:LABELLED]

    def label(model: SequenceClassifier) -> list[Sample]:
        guesses = Classifier(model, tokenizer)([text for text, _ in chosen])
        return [
            {"text": text, "label": label, "guess": f"{guess.label} ({guess.probability:.0%})"}
            for (text, label), guess in zip(chosen, guesses, strict=True)
        ]

    return label
