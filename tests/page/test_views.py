import dataclasses

import jaxtyping
import numpy as np
import pytest
import torch
from helpers_models import fresh_gpt, tiny_rnn
from helpers_page import BYTES, PIPELINES, TEXT, gpt_classifier, made_view, transformer, weights_of
from helpers_pipelines import CHARACTERS, pipeline

from minitransformer import InputError, MaskFiller, RNNConfig, RNNSeq2Seq, Translator, greedy, record_attention
from minitransformer.page import Grid, View, as_bytes, grids_of
from minitransformer.tokenization import token_texts

PATHS = ("encoder.{}.attention", "decoder.{}.attention", "decoder.{}.cross_attention")
pytestmark = pytest.mark.filterwarnings("ignore:.*are cut off", "ignore:.*never seen in training")


def test_bytes_stand_for_weights_to_one_in_255_and_keep_small_ones_apart():
    weights = torch.linspace(0, 1, 100_001)
    assert np.abs(weights_of(as_bytes(weights)) - weights.numpy()).max() < 1 / 255
    assert weights_of(as_bytes(torch.tensor([1 / 512])))[0] == pytest.approx(1 / 512, rel=0.05)
    for wrong in (torch.tensor([1.1]), torch.tensor([-0.1]), torch.tensor([float("nan")])):
        with pytest.raises(InputError, match="from 0 to 1"):
            as_bytes(wrong)


def test_a_translation_is_seen_as_greedy_decoding_is_recorded():
    translator = transformer()
    view = translator.view(TEXT)
    ids = torch.tensor([translator.encode(TEXT)])
    with record_attention(translator.model) as maps:
        size = CHARACTERS.get_vocab_size()
        output = greedy(translator.model, ids, max_new_tokens=ids.shape[1] + 6, vocab_size=size)[0].tolist()
    written, read = token_texts(CHARACTERS, output), token_texts(CHARACTERS, ids[0].tolist())
    encoder, decoder, cross = view.grids
    assert [grid.kind for grid in view.grids] == ["encoder", "decoder", "cross"]
    assert encoder.queries == encoder.keys == cross.keys == view.source == tuple(read)
    assert cross.queries == tuple(written) and decoder.queries == decoder.keys == ("[BOS]", *written[:-1])
    for grid, name in (
        (encoder, "encoder.{}.attention"),
        (decoder, "decoder.{}.attention"),
        (cross, "decoder.{}.cross"),
    ):
        for layer in range(2):
            [weights] = [maps[path] for path in maps if path.startswith(name.format(f"layers.{layer}"))]
            assert np.abs(weights_of(grid.weights[layer]) - weights[0].numpy()).max() < 1 / 255
    assert decoder.step_rows == cross.step_rows == tuple(range(len(output))) and encoder.step_rows == ()


def test_steps_have_the_text_so_far_and_the_five_likeliest_tokens():
    translator = transformer()
    view = translator.view(TEXT)
    cross = view.grids[-1]
    ids = torch.tensor([translator.encode(TEXT)])
    target = [translator.model.config.bos_id]
    for step, token in zip(view.steps, cross.queries, strict=True):
        logits = translator.model(ids, torch.tensor([target]))[0, -1, : CHARACTERS.get_vocab_size()]
        best = logits.softmax(dim=0).topk(5)
        assert [share for _, share in step.likeliest] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert step.likeliest[0][0] == token
        assert step.text == CHARACTERS.decode(target)
        target.append(int(best.indices[0]))


def test_a_continuation_has_a_row_for_each_token_read_and_steps_from_the_last_of_the_prompt():
    completer = PIPELINES["gpt"]()
    view = completer.view("the", max_new_tokens=4)
    [grid] = view.grids
    assert view.source == ("t", "h", "e")
    ids = [BYTES.token_to_id(token) for token in view.source]
    new = greedy(completer.model, torch.tensor([ids]), max_new_tokens=4)[0]
    with record_attention(completer.model) as maps:
        completer.model(torch.tensor([[*ids, *new[:-1].tolist()]]))
    [weights] = maps.values()
    assert grid.kind == "decoder" and grid.step_rows == tuple(range(len(ids) - 1, len(ids) - 1 + len(new)))
    assert np.abs(weights_of(grid.weights[0]) - weights[0].numpy()).max() < 1 / 255
    assert [step.text for step in view.steps][:2] == ["the", BYTES.decode([*ids, int(new[0])])]


def test_a_continuation_ends_where_the_context_is_full_and_says_so():
    completer = PIPELINES["gpt"]()
    with pytest.warns(UserWarning, match="3 new tokens fill the context") as warned:
        view = completer.view("the lazy dog t", max_new_tokens=9)
    said = tuple(str(each.message) for each in warned if each.category is UserWarning)  # not of a file left open before
    assert len(view.steps) <= 3 and view.notes == said
    with pytest.warns(UserWarning, match="longer than the 16 tokens"):
        assert len(completer.view("the lazy " * 3, max_new_tokens=1).grids[0].queries) == 16
    assert completer.view("", max_new_tokens=1).source == ("[EOS]",)
    with pytest.raises(InputError, match="max_new_tokens=0"):
        completer.view("the", max_new_tokens=0)


def test_gaps_are_steps_with_their_likeliest_tokens():
    filler = pipeline(MaskFiller)
    text = "the [MASK] dog [MASK]"
    view = filler.view(text)
    [grid] = view.grids
    assert [grid.queries[row] for row in grid.step_rows] == ["[MASK]"] * 2
    for step, fillings in zip(view.steps, filler(text), strict=True):
        assert [token for token, _ in step.likeliest] == [filling.token for filling in fillings]
        assert [share for _, share in step.likeliest] == pytest.approx([filling.probability for filling in fillings])
    assert filler.view("the dog").steps == ()


def test_a_bert_without_a_head_shows_its_attention():
    filler = pipeline(MaskFiller)
    filler.model.masked_head = None
    assert filler.view("the [MASK] dog").steps == ()


def test_labels_are_a_step_and_pooling_is_its_row():
    classifier = PIPELINES["bert classifier"]()
    view = classifier.view(TEXT)
    guess, words = classifier.explain(TEXT)
    [step] = view.steps
    assert step.likeliest[0] == (guess.label, pytest.approx(guess.probability))
    encoder, pooling = view.grids
    assert (encoder.kind, pooling.kind, pooling.step_rows) == ("encoder", "pooling", (0,))
    assert weights_of(pooling.weights).sum() == pytest.approx(sum(count for _, count in words), abs=0.02)
    assert [grid.kind for grid in gpt_classifier().view(TEXT).grids] == ["decoder", "pooling"]


def test_padding_that_an_unmasked_model_attends_to_is_shown():
    model = tiny_rnn(masked=False)
    with torch.inference_mode(), record_attention(model) as maps:
        greedy(model, torch.tensor([[5, 6, 3]]), max_new_tokens=2)
    [grid] = grids_of(maps, {"cross": ("ab", "xyz")})
    assert grid.keys == ("x", "y", "z", *["[PAD]"] * 13)


def test_maps_of_several_shapes_make_no_grid():
    maps = {"encoder.0.attention": torch.ones(1, 2, 3, 3) / 3, "encoder.1.attention": torch.ones(1, 4, 3, 3) / 3}
    with pytest.raises(InputError, match=r"encoder maps of the shapes \[\(2, 3, 3\), \(4, 3, 3\)\]"):
        grids_of(maps, {"encoder": ("abc", "abc")})


@pytest.mark.filterwarnings("ignore:.*fill the context")
@pytest.mark.parametrize("name", PIPELINES)
def test_a_view_is_the_same_again_under_its_title_and_leaves_no_hooks(name):
    made = PIPELINES[name]()
    first, second = made.view(TEXT, title="it"), made.view(TEXT)
    assert (first.title, second.title) == ("it", type(made.model).__name__)
    assert all(np.array_equal(a.weights, b.weights) for a, b in zip(first.grids, second.grids, strict=True))
    assert not any(module._forward_hooks for module in made.model.modules())


def test_what_was_cut_or_unknown_is_a_note_and_a_warning():
    translator = transformer()
    with pytest.warns(UserWarning) as warned:
        view = translator.view("the lazy dog " * 3 + "!")
    assert view.notes == tuple(str(warning.message) for warning in warned)
    assert "longer than the 19 tokens" in view.notes[0] and "never seen" in view.notes[1]
    assert len(view.source) == 20
    for name in ("bert", "bert classifier"):
        with pytest.warns(UserWarning, match="longer than the 16 tokens"):
            view = PIPELINES[name]().view("the lazy dog " * 9)
        assert len(view.source) == 16 and view.source[-1] == "[SEP]"


def test_a_model_without_attention_and_a_blank_line_are_refused():
    config = RNNConfig(30, 30, d_model=8, hidden_size=8, attention="none")
    blind = Translator(RNNSeq2Seq(config).eval(), CHARACTERS, CHARACTERS)
    with pytest.raises(InputError, match="rnn-none: this model has no attention to show"):
        blind.view(TEXT, title="rnn-none")
    with pytest.raises(InputError, match="line is empty"):
        transformer().view(" ")


def test_grids_keep_the_layers_and_heads_that_are_named_by_their_numbers():
    view = made_view(layers=3, heads=4)
    [grid], [kept] = view.grids, view.only(layers=[3, 1], heads=[2]).grids
    assert (kept.layers, kept.heads) == ((1, 3), (2,))
    assert np.array_equal(kept.weights, grid.weights[[0, 2]][:, [1]])
    assert kept.only([3], None).layers == (3,)
    with pytest.raises(InputError, match="made has layers 1-3 and heads 1-4, and none of those asked for"):
        view.only(layers=[7])
    alone = made_view()
    assert alone.only(layers=[5]).grids == alone.grids  # the one head of a recurrent model


def test_entropy_and_distance_are_means_over_the_rows_of_a_head():
    weights = torch.tensor([[[[1.0, 0, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 0]]]])
    grid = Grid("encoder", tuple("abc"), tuple("wxyz"), as_bytes(weights))
    assert grid.entropy.tolist() == [[pytest.approx(1 / 3, abs=1e-3)]]  # 0, 1 and 0 bits
    assert grid.distance.tolist() == [[pytest.approx((0 + 1.5 + 0) / 3, abs=1e-3)]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(keys=("x",)), r"weights \(1, 1, 3, 2\) do not fit \(queries, keys\) = \(3, 1\)"),
        (dict(queries=(), weights=np.zeros((1, 1, 0, 2), np.uint8)), "1 or more of each"),
        (dict(kind="sideways"), "kind='sideways' must be one of encoder, decoder, cross, pooling, image"),
        (dict(kind="image", cells=(3, 3)), r"cells=\(3, 3\) do not fit 2 keys"),
    ],
)
def test_grids_that_do_not_fit_are_refused(change, said, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests
    [grid] = made_view().grids
    with pytest.raises(InputError, match=said):
        dataclasses.replace(grid, **change)


def test_views_that_do_not_fit_are_refused():
    [grid] = made_view().grids
    with pytest.raises(InputError, match="2 step_rows do not fit 0 steps"):
        View("it", "text", (dataclasses.replace(grid, step_rows=(0, 1)),))
    with pytest.raises(InputError, match="its view an image"):
        View("it", "text", (dataclasses.replace(grid, kind="image", cells=(1, 2)),))


def test_gpt_maps_are_those_of_the_decoder_even_without_positions():
    model = fresh_gpt("rotary")
    with torch.inference_mode(), record_attention(model) as maps:
        model(torch.tensor([[1, 2, 3]]))
    [grid] = grids_of(maps, {"decoder": ("abc", "abc")})
    assert grid.kind == "decoder" and not grid.weights[0, 0, 0, 1:].any()
