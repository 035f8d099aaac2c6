"""What all pipelines share: which texts they take, and which tokenizers."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from helpers_checkpoints import edit_config
from helpers_pipelines import CHARACTERS, SIZES, WORDS, pipeline

from minitransformer import GPT, Classifier, Completer, GPTConfig, InputError, MaskFiller, Translator
from minitransformer.tokenization import train_character_tokenizer, train_wordpiece_tokenizer

pytestmark = pytest.mark.usefixtures("as_users_run_it")


METHODS = {
    "completer": (Completer, lambda one, texts: one(texts, max_new_tokens=4, temperature=0.0)),
    "translator": (Translator, lambda one, texts: one(texts, max_new_tokens=4)),
    "beams": (Translator, lambda one, texts: one(texts, beam_size=3, max_new_tokens=4)),
    "n best": (Translator, lambda one, texts: one.n_best(texts, n_best=2, max_new_tokens=4)),
    "stream": (Translator, lambda one, texts: list(one.stream(texts, max_new_tokens=4))),
    "encode": (Translator, lambda one, texts: one.encode(texts)),
    "classifier": (Classifier, lambda one, texts: one(texts)),
    "probabilities": (Classifier, lambda one, texts: one.probabilities(texts).tolist()),
    "explain": (Classifier, lambda one, texts: one.explain(texts)),
    "mask filler": (MaskFiller, lambda one, texts: one(texts, top_k=2)),
}
WITH_GAPS = ["the [MASK]", "[MASK] dog [MASK]"]


@pytest.fixture(params=METHODS)
def called(request):
    kind, call = METHODS[request.param]
    return lambda texts, one=None: call(one or pipeline(kind), texts)


@pytest.mark.parametrize("kind", [Classifier, Completer, MaskFiller, Translator])
def test_a_pipeline_refuses_a_model_or_a_tokenizer_of_another_kind(kind):
    one = pipeline(kind)
    other = pipeline(MaskFiller if kind is Completer else Completer).model
    for model in (other, None, torch.nn.Linear(1, 1), "runs/mine"):
        with pytest.raises(InputError, match=f"the model is a {type(model).__name__}: give a"):
            replace(one, model=model)
    name = "target_tokenizer" if kind is Translator else "tokenizer"
    with pytest.raises(InputError, match=r"the tokenizer is a NoneType: give a tokenizers\.Tokenizer"):
        replace(one, **{name: None})
    assert replace(one, model=torch.compile(one.model, backend="eager"))


def test_a_classifier_whose_encoder_does_not_say_what_it_reads_is_refused():
    one = pipeline(Classifier)
    del one.model.encoder.config
    with pytest.raises(InputError, match="a BERT says in no config how many ids it reads"):
        replace(one, batch_tokens=9)


@pytest.mark.filterwarnings("ignore:.*cut off")
@pytest.mark.parametrize("name", [name for name in METHODS if name != "stream"])
def test_a_string_is_one_text(name):
    kind, call = METHODS[name]
    one = pipeline(kind)
    texts = WITH_GAPS if kind is MaskFiller else ["lazy", "dog"]
    assert [call(one, text) for text in texts] == [call(one, [text])[0] for text in texts]
    assert len(call(one, (text for text in texts))) == 2


def test_no_texts_give_nothing(called):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert called([]) == called(()) == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "None is a NoneType: give a string, or a list of strings"),
        (7, "7 is a int"),
        (b"dog", "b'dog' is a bytes"),
        ({"dog": 1}, "is a dict"),
        (["dog", None], "None is a NoneType: give one string"),
        (["dog", float("nan")], "nan is a float"),
        ([["dog"]], r"\['dog'\] is a list"),
        ([b"dog"], "b'dog' is a bytes"),
        ("do\udcff", r"'do\\udcff' is not UTF-8 after 2 characters"),
    ],
    ids=str,
)
def test_what_is_no_text_is_refused(called, texts, message):
    with pytest.raises(InputError, match=message):
        called(texts)


@pytest.mark.parametrize("text", [None, b"dog", ["dog"]], ids=str)
@pytest.mark.parametrize("method", ["stream", "attention_map"])
def test_methods_for_one_text_refuse_others(method, text):
    one = pipeline(Completer if method == "stream" else Translator)
    with pytest.raises(InputError, match="give one string"):
        getattr(one, method)(text)


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_ids_beyond_the_tokenizer_are_never_given():
    completer, filler = pipeline(Completer), pipeline(MaskFiller)
    with torch.no_grad():
        completer.model.output.weight[CHARACTERS.get_vocab_size() :] *= 100  # the likeliest by far, or the least likely
        filler.model.embedding.weight[WORDS.get_vocab_size() :] *= 100
    for options in (dict(temperature=0.0), dict(temperature=5.0, seed=0)):
        assert len(completer("", max_new_tokens=12, stop_ids=[], **options)) >= 1
        ids = [CHARACTERS.token_to_id(character) for character in completer("", max_new_tokens=12, **options)]
        assert None not in ids
    [gap] = filler("the [MASK]", top_k=WORDS.get_vocab_size())
    assert sum(probability for _, probability in gap) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(InputError, match="top_k=200 must be at least 1 and at most"):
        filler("the [MASK]", top_k=200)
    translator = pipeline(Translator)
    with torch.no_grad():
        translator.model.output.bias[CHARACTERS.get_vocab_size() :] = 1e9
        translator.model.output.bias[:4] = -1e9
    for beam_size in (1, 3):
        assert len(translator("the", beam_size=beam_size, max_new_tokens=9)) == 9


@pytest.mark.parametrize(
    ("kind", "saved", "refusal"),
    [
        (Classifier, Completer, r"a GPT, which gives no labels: python -m train\.finetune --init"),
        (MaskFiller, Completer, "a GPT, which fills no gaps"),
        (Completer, MaskFiller, "a BERT, which does not continue texts"),
        (Translator, MaskFiller, "a BERT, which does not translate"),
    ],
)
def test_a_model_of_another_kind_is_refused(kind, saved, refusal, tmp_path):
    with pytest.raises(InputError, match=refusal):
        kind.load(pipeline(saved).save(tmp_path))


@pytest.mark.parametrize("kind", [Completer, Classifier, MaskFiller, Translator])
def test_a_tokenizer_that_is_not_the_models_is_refused(kind, tmp_path):
    pipeline(kind).save(tmp_path)
    assert kind.load(tmp_path)
    characters = kind in (Completer, Translator)
    other = train_character_tokenizer(["quick"]) if characters else train_wordpiece_tokenizer(["quick"], 40)
    other.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match=r"tokenizer\.json is not the tokenizer that this model was saved with"):
        kind.load(tmp_path)
    edit_config(tmp_path, tokenizers=...)
    with pytest.raises(InputError, match=r"that is no padding: it seems to be another model's"):
        kind.load(tmp_path)


def test_a_model_without_a_record_of_its_tokenizer_may_have_a_padded_vocabulary(tmp_path):
    for size in (16, 24, 64):
        Completer(GPT(GPTConfig(**SIZES | dict(vocab_size=size), eos_id=3)), CHARACTERS).save(tmp_path)
        edit_config(tmp_path, tokenizers=...)
        if size == 24:
            with pytest.raises(InputError, match="has 15 ids, its model knows 24, and that is no padding"):
                Completer.load(tmp_path)
        else:
            assert Completer.load(tmp_path)


ONE_TEXT = {
    "sampling": (Completer, lambda one, texts: one(texts, max_new_tokens=3)),
    "streaming": (Completer, lambda one, texts: list(one.stream(texts[0], max_new_tokens=3))),
    "map": (Translator, lambda one, texts: one.attention_map(texts[0])),
}
ALL = {name: method for name, method in (METHODS | ONE_TEXT).items() if name != "encode"}  # which runs no model


@pytest.mark.filterwarnings("ignore:.*cut off")
@pytest.mark.parametrize(("kind", "call"), ALL.values(), ids=ALL)
def test_unknown_characters_and_a_model_in_training_mode_are_warned_of(kind, call):
    one = pipeline(kind)
    one.model.train()
    with pytest.warns(UserWarning) as warned:
        call(one, ["the [MASK] \N{SNOWMAN} \N{SNOWMAN}"])
    said = [str(warning.message) for warning in warned]
    assert sum("training mode" in message for message in said) == 1
    if isinstance(one, Translator) and call is not ONE_TEXT["map"][1]:
        batches = replace(one, batch_tokens=1, block_lines=2)
        with pytest.warns(UserWarning) as warned:
            call(batches, ["the dog"] * 5)
        assert sum("training mode" in str(warning.message) for warning in warned) == 1
    assert sum("never seen in training" in message and "'\N{SNOWMAN}' (2)" in message for message in said) == 1


@pytest.mark.filterwarnings("ignore:.*cut off", "ignore:.*never seen")
@pytest.mark.parametrize(("kind", "call"), ALL.values(), ids=ALL)
def test_scores_that_are_nan_are_refused(kind, call):
    """A model whose weights are finite, but so large that its scores are NaN, gives nothing."""
    one = pipeline(kind)
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter.mul_(1e30)
    assert all(parameter.isfinite().all() for parameter in one.model.parameters())
    with pytest.raises(InputError, match=r"the model.s scores are NaN or infinite: .* take an earlier checkpoint"):
        call(one, ["the [MASK]"])


@pytest.mark.parametrize("value", [0, -1, 2.5, None, True])
@pytest.mark.parametrize(
    ("kind", "size"), [(Classifier, "batch_tokens"), (Translator, "batch_tokens"), (Translator, "block_lines")]
)
def test_sizes_of_batches_are_whole_numbers_from_1(kind, size, value):
    """A Translator that reads 0 lines at a time would translate none."""
    with pytest.raises(InputError, match=size):
        replace(pipeline(kind), **{size: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [Classifier, Completer, MaskFiller, Translator])
def test_weights_that_are_not_finite_are_refused(kind, value):
    """Not all of them make a score NaN: tanh, sigmoid and softmax hide an infinity."""
    one = pipeline(kind)
    name, parameter = list(one.model.named_parameters())[-1]
    with torch.no_grad():
        parameter.view(-1)[-1] = value
    with pytest.raises(InputError, match=rf"this {type(one.model).__name__}: 1 of the .* {name} are NaN or infinite"):
        replace(one, model=one.model)


def test_prompts_longer_than_the_context_are_counted():
    completer, long = pipeline(Completer), "lazy dog " * 4
    with pytest.warns(UserWarning) as warned:
        found = completer(["the", long], max_new_tokens=3, temperature=0.0)
    assert [str(warning.message) for warning in warned] == [
        "1 of 2 texts are longer than the 16 tokens that the model reads, of which the last are read: text 2"
    ]
    assert found[1] == completer(long[-16:], max_new_tokens=3, temperature=0.0)
