"""Tokenizers, each a plain `tokenizers.Tokenizer`: text to ids and back, saved as one `tokenizer.json`.

`encode(text)` gives `[BOS] text [EOS]`, and `encode(text, add_special_tokens=False)` the text alone. The specials are
ordinary entries of the vocabulary and not *added tokens*, which the library would look for in every text it encodes.
So a text that says "[PAD]" is five characters or the pieces "[", "PAD" and "]", here and wherever `tokenizer.json` is
loaded, and the decoder, not the list of added tokens, leaves the specials out of decoded text.

`transformers.PreTrainedTokenizerFast(tokenizer_file=...)` reads the file and agrees. Told `pad_token="[PAD]"` and the
like, it pads, and makes added tokens of them: then `split_special_tokens=True` keeps a text that says "[PAD]" a text.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from minitransformer.errors import InputError

PAD, UNK, BOS, EOS = SPECIALS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
"""The first four entries of every vocabulary trained here: ids 0, 1, 2, 3."""

_WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
"""Words, numbers, punctuation and white space, each with the one space before it: GPT-2's rule without its English
contractions, and with combining marks in their word, as Hindi or decomposed accents need.

Under this rule and under GPT-2's a bracket never shares a piece with a letter, so no merge can spell a special token.
"""


def train_character_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """One token per Unicode code point of `texts`, spaces and newlines included; the vocabulary is sorted.

    Nothing is normalised: text of known characters comes back from `decode` exactly, and "é" written as one code
    point or as two stays what it was. An unknown character becomes one [UNK], which `decode` leaves out.
    """
    characters = sorted(set(chain.from_iterable(texts)))
    if not characters:
        raise InputError("the texts hold no characters, so there is nothing to make a vocabulary of")
    vocabulary = {token: index for index, token in enumerate([*SPECIALS, *characters])}
    # Not ".", which passes over newlines.
    every_character = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    return _tokenizer(models.WordLevel(vocabulary, unk_token=UNK), every_character, decoders.Fuse())


def train_bpe_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Pieces of words, found by byte-pair encoding (Sennrich et al. 2016) from the characters of `texts`.

    A piece holds the space before it, so text of known characters comes back from `decode` exactly, cased, with every
    space and newline. An unknown character becomes one [UNK], which `decode` leaves out. Every character of `texts` is
    known: `vocab_size` must have room for all. The vocabulary is smaller than asked where no more pairs are found.
    """
    return _train_bpe(
        texts,
        vocab_size,
        models.BPE(unk_token=UNK),
        pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
        decoders.Fuse(),
    )


def train_byte_bpe_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-pair encoding from the 256 bytes of UTF-8, between GPT-2's word boundaries (Radford et al. 2019).

    Nothing is unknown, and any text comes back from `decode` exactly. `vocab_size` is at least 260: bytes and specials.
    """
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _train_bpe(texts, vocab_size, models.BPE(), words, decoders.ByteLevel(), words.alphabet())


def _train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    model: models.BPE,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
    decoder: decoders.Decoder,
    alphabet: Iterable[str] = (),
) -> Tokenizer:
    if isinstance(texts, str):
        raise InputError("texts is one string, whose characters would be a text each: put it into a list")
    alphabet = set(alphabet)
    minimum = len(SPECIALS) + max(1, len(alphabet))
    if vocab_size < minimum:
        raise InputError(f"vocab_size={vocab_size} must be at least {minimum}")
    seen: set[str] = set()

    def texts_noting_characters() -> Iterator[str]:
        for text in texts:
            seen.update(text)
            yield text

    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIALS), initial_alphabet=sorted(alphabet), show_progress=False
    )
    workshop = Tokenizer(model)
    workshop.pre_tokenizer = pre_tokenizer
    workshop.train_from_iterator(texts_noting_characters(), trainer)
    if not seen:
        raise InputError("the texts hold no characters, so there is nothing to make a vocabulary of")
    # The trainer would keep any number of them, and learn no pairs.
    if not alphabet and vocab_size < len(SPECIALS) + len(seen):
        raise InputError(
            f"vocab_size={vocab_size} is too small for the {len(seen)} characters of the texts: it must be at least "
            f"{len(SPECIALS) + len(seen)}, or take a byte-level tokenizer"
        )
    # The trainer made added tokens of the specials in the tokenizer it worked on, but not in the model.
    return _tokenizer(workshop.model, pre_tokenizer, decoder)


def _tokenizer(model: models.Model, pre_tokenizer: pre_tokenizers.PreTokenizer, decoder: decoders.Decoder) -> Tokenizer:
    """The parts, with the specials put around encoded text and left out of decoded text."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(token, tokenizer.token_to_id(token)) for token in (BOS, EOS)]
    )
    # No token of text holds a special's name, so where it reads "[PAD]" it can only be the special one.
    tokenizer.decoder = decoders.Sequence([*(decoders.Replace(token, "") for token in SPECIALS), decoder])
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer saved at `path`, or an `InputError` where there is none."""
    if not Path(path).is_file():
        raise InputError(f"no tokenizer file at {path}")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower, whatever is wrong with the file
        raise InputError(f"{path} is not a tokenizer saved by the tokenizers library: {error}") from error


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token; `InputError` if the tokenizer has none such."""
    index = tokenizer.token_to_id(token)
    if index is None:
        raise InputError(f"the tokenizer has no token {token}, which batches of pairs need")
    return index


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """The id of the token that ends a text: [EOS], GPT-2's <|endoftext|> or RoBERTa's </s>."""
    names = (EOS, "<|endoftext|>", "</s>")
    for name in names:
        index = tokenizer.token_to_id(name)
        if index is not None:
            return index
    raise InputError(f"the tokenizer has no token that ends a text: none of {', '.join(names)}")


def stream_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """The text of `ids` as they come; the pieces together are `tokenizer.decode(ids)`.

    A character of several tokens waits for its last: cut short, it would decode to U+FFFD. For decoders that put
    tokens side by side, as all here and GPT-2's do. `tokenizers.decoders.DecodeStream` keeps a cut-off end to itself.
    """
    held: list[int] = []
    text = ""  # of the tokens held back
    for token_id in ids:
        alone = tokenizer.decode([token_id])
        if not alone:  # a special token
            continue
        together = tokenizer.decode([*held, token_id]) if held else alone
        if together == text + alone:
            # This token goes on with no character begun before it, so what was held back is what it is.
            if text:
                yield text
            held, text = [token_id], alone
        else:
            held, text = [*held, token_id], together
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text
            held, text = [], ""
    if text:
        yield text


def unknown_characters(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each piece of `texts` that the vocabulary lacks occurs: what becomes [UNK]."""
    texts = list(texts)
    unknown_id = tokenizer.token_to_id(UNK)
    return Counter(
        text[slice(*span)]
        for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True)
        for token_id, span in zip(encoding.ids, encoding.offsets, strict=True)
        if token_id == unknown_id
    )
