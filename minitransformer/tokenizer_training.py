"""Training of vocabularies, each returned as a plain `tokenizers.Tokenizer`: see `tokenization.py`."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from minitransformer.checks import require_number
from minitransformer.errors import InputError

PAD, UNK, BOS, EOS = SPECIALS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
"""The first four entries, ids 0 to 3, of the vocabularies trained here for generating models."""
BERT_SPECIALS = (PAD, UNK, "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""The first five entries, ids 0 to 4, of the vocabularies of masked models."""

MOST_TOKENS = 1_000_000
"""The largest vocabulary to train. Published ones have up to 262,144 tokens."""
LONGEST_WORD = 100
"""In characters. Longer runs of letters, such as Thai or base pairs, are cut into words of this length: the time that
pieces take grows with the square of a word's length, and BERT's tokenizer reads a longer word as one [UNK]."""

_WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
"""Words, numbers, punctuation and white space, each including the one space before it: GPT-2's rule without English
contractions, and with combining marks as parts of words, which Hindi and decomposed accents need.

Under this rule, as under GPT-2's, no piece holds a bracket and a letter, so no merge can spell a special token.
"""
_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def train_character_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """One token per Unicode code point of `texts`, spaces and newlines included; the vocabulary is sorted.

    Nothing is normalised: text of known characters comes back from `decode` exactly, and "é" written as one code
    point or as two stays what it was. An unknown character becomes one [UNK], which `decode` leaves out.
    """
    characters = sorted(set(chain.from_iterable(texts)))
    _require_characters(characters)
    vocabulary = {token: index for index, token in enumerate([*SPECIALS, *characters])}
    # Not ".", which does not match newlines.
    every_character = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    return _tokenizer(models.WordLevel(vocabulary, unk_token=UNK), every_character, [decoders.Fuse()])


def train_bpe_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Pieces of words, found by byte-pair encoding (Sennrich et al. 2016) from the characters of `texts`.

    A piece holds the space before it, so text of known characters comes back from `decode` exactly, cased, with every
    space and newline. An unknown character becomes one [UNK], which `decode` leaves out. Every character of `texts` is
    known: `vocab_size` must have room for all. The vocabulary is smaller than asked where no more pairs are found. No
    piece crosses the ends of words, nor, in runs without a space, every hundredth letter (`LONGEST_WORD`).
    """
    return _train_bpe(texts, vocab_size, SPECIALS, of_bytes=False)


def train_byte_bpe_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-pair encoding from the 256 bytes of UTF-8, between GPT-2's word boundaries (Radford et al. 2019).

    Nothing is unknown, and any text comes back from `decode` exactly. `vocab_size` is at least 260: bytes and specials.
    Long words are cut as in `train_bpe_tokenizer`.
    """
    return _train_bpe(texts, vocab_size, SPECIALS, of_bytes=True)


def train_roberta_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-pair encoding from bytes, as `train_byte_bpe_tokenizer`, with RoBERTa's specials (Liu et al. 2019).

    `encode(text)` gives `<s> text </s>`. `vocab_size` is at least 261.
    """
    return _train_bpe(texts, vocab_size, ROBERTA_SPECIALS, of_bytes=True)


def train_wordpiece_tokenizer(
    texts: Iterable[str], vocab_size: int, *, lowercase: bool = True, strip_accents: bool = False
) -> Tokenizer:
    """Pieces of words as BERT has them (Devlin et al. 2019): a piece that continues a word begins with "##".

    White space and punctuation divide words, and a Chinese character is a word; the longest piece that fits comes
    first. Other than BERT, `lowercase` does not take accents away: with `strip_accents`, "schön" is "schon", and the
    vowels of Hindi are lost. Nor are control characters dropped, such as the joiners that Persian and emoji need. A run
    of more than 100 letters (`LONGEST_WORD`) is several words, where BERT's is one [UNK].

    Every text of the characters of `texts` is known: `vocab_size` must have room for all, at the beginning of a word
    and inside. The vocabulary is smaller than asked where no more pieces are found. `encode(text)` gives
    `[CLS] text [SEP]`; `decode` puts words apart by one space.
    """
    _require_several(texts)
    require_number("vocab_size", vocab_size, at_least=len(BERT_SPECIALS) + 1, at_most=MOST_TOKENS)
    normalizer = normalizers.BertNormalizer(clean_text=False, lowercase=lowercase, strip_accents=strip_accents)
    words = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), _split(r"[\s\S]+")])
    texts = list(texts)
    # The trainer numbers characters differently in every run. Handed in, sorted, they have the same ids.
    starts, inside = set(), set()
    for character in set(chain.from_iterable(map(normalizer.normalize_str, set().union(*texts)))):
        found = [word for word, _ in words.pre_tokenize_str(normalizer.normalize_str(f"a{character}"))]
        if found == [f"a{character}"]:
            inside.add(f"##{character}")
        if found != ["a"]:  # a space
            starts.add(character)
    _require_characters(starts)
    first = [*BERT_SPECIALS, *sorted(starts), *sorted(inside)]
    if vocab_size < len(first):
        raise InputError(
            f"vocab_size={vocab_size} is too small for the {len(starts)} characters of the texts, at the beginning of "
            f"a word and inside: it must be at least {len(first)}"
        )
    workshop = Tokenizer(models.WordPiece(unk_token=UNK, max_input_chars_per_word=LONGEST_WORD))
    workshop.normalizer, workshop.pre_tokenizer = normalizer, words
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
    workshop.train_from_iterator(texts, trainer)
    # The decoder puts a space before every word, even an empty one. Not Strip, which panics on an empty text.
    spaces = [decoders.Fuse(), decoders.Replace(Regex(" +"), " "), decoders.Replace(Regex("^ | $"), "")]
    tokenizer = _tokenizer(workshop.model, words, [decoders.WordPiece(), *spaces], BERT_SPECIALS)
    tokenizer.normalizer = normalizer
    return tokenizer


def _split(words: str) -> pre_tokenizers.PreTokenizer:
    """Every match of the pattern `words` apart, with at most `LONGEST_WORD` characters for each of its "+"."""
    return pre_tokenizers.Split(Regex(words.replace("+", f"{{1,{LONGEST_WORD}}}")), behavior="isolated")


def _train_bpe(texts: Iterable[str], vocab_size: int, specials: Sequence[str], *, of_bytes: bool) -> Tokenizer:
    _require_several(texts)
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(to_bytes.alphabet()) if of_bytes else []
    words = [_split(_GPT2_WORDS), to_bytes] if of_bytes else [_split(_WORDS)]
    decoder = decoders.ByteLevel() if of_bytes else decoders.Fuse()
    least = len(specials) + max(1, len(alphabet))
    require_number("vocab_size", vocab_size, at_least=least, at_most=MOST_TOKENS)
    seen: set[str] = set()

    def texts_noting_characters() -> Iterator[str]:
        for text in texts:
            seen.update(text)
            yield text

    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    workshop = Tokenizer(models.BPE(unk_token=None if of_bytes else UNK))
    workshop.pre_tokenizer = pre_tokenizers.Sequence(words)
    workshop.train_from_iterator(texts_noting_characters(), trainer)
    _require_characters(seen)
    # The trainer would keep all characters, however many, and learn no pairs.
    if not of_bytes and vocab_size < len(specials) + len(seen):
        raise InputError(
            f"vocab_size={vocab_size} is too small for the {len(seen)} characters of the texts: it must be at least "
            f"{len(specials) + len(seen)}"
        )
    # The trainer made added tokens of the specials in its own tokenizer, but not in the model.
    return _tokenizer(workshop.model, workshop.pre_tokenizer, [decoder], specials)


def _require_several(texts: Iterable[str]) -> None:
    if isinstance(texts, str):
        raise InputError("texts is one string, and each of its characters would be a text: put it into a list")


def _require_characters(characters: Collection[str]) -> None:
    if not characters:
        raise InputError("the texts hold no characters, so no vocabulary can be trained on them")


def _tokenizer(
    model: models.Model,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
    decoder: list[decoders.Decoder],
    specials: Sequence[str] = SPECIALS,
) -> Tokenizer:
    """A tokenizer of these parts that puts special tokens around encoded text and leaves them out of decoded text."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    first, last, pair = _TEMPLATES[tuple(specials)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=pair,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    # No token of text spells a special token, so a token "[PAD]" is always the special one.
    tokenizer.decoder = decoders.Sequence([*(decoders.Replace(token, "") for token in specials), *decoder])
    return tokenizer


_TEMPLATES = {
    SPECIALS: (BOS, EOS, f"{BOS} $A {EOS} $B:1 {EOS}:1"),
    BERT_SPECIALS: ("[CLS]", "[SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    ROBERTA_SPECIALS: ("<s>", "</s>", "<s> $A </s> </s> $B </s>"),
}
"""The tokens before and after a text, and around a pair of texts."""
