"""The attention page in a real browser: what it shows, and what it answers to."""

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from helpers_browser import opened, until
from helpers_page import PIPELINES, TEXT, exploring, made_view, rnn, transformer, weights_of
from helpers_pipelines import CHARACTERS

from minitransformer import InputError, greedy, record_attention
from minitransformer.page import Grid, Step, View, as_bytes, attention_page
from minitransformer.page.rollout import rollout

pytestmark = pytest.mark.filterwarnings("ignore:.*are cut off", "ignore:.*fill the context")

TO_HASH = """hash => new Promise(resolve => {
    addEventListener("hashchange", resolve, {once: true});
    location.hash = hash;
})"""
ROWS = """() => [...document.querySelectorAll("article")].map(article =>
    [...article.querySelectorAll(".tokens.queries button")].map(query => {
        query.focus();
        return [...article.querySelectorAll(".keys data")].map(data => Number(data.value));
    }))"""
CURRENT = """() => [...document.querySelectorAll("article")].map(article => {
    const at = axis => [...article.querySelectorAll(axis + " button")].findIndex(b => b.ariaCurrent === "true");
    return [at(".tokens.queries"), at(".tokens.keys")];
})"""


@pytest.fixture
def show(browser, tmp_path):
    """Opens the page of some views."""
    pages = []

    def show(*views, hash="", **options):
        path = attention_page(views, tmp_path / f"{len(pages)}.html")
        pages.append(opened(browser, path.as_uri() + hash, **options))
        return pages[-1].__enter__()

    yield show
    for page in pages:
        page.__exit__(None, None, None)


def rows_shown(page, hash):
    """The weights of every row that the address names, as numbers in the page, for each model."""
    page.evaluate(TO_HASH, hash)
    return [np.array(rows) for rows in page.evaluate(ROWS)]


def texts(page, selector):
    return page.locator(selector).all_text_contents()


def reading(page, selector=".reading"):
    """What a page says about the active token, without the marks that isolate its direction."""
    return page.locator(selector).first.text_content().replace("\u2068", "").replace("\u2069", "")


def attended(view):
    """The weights (layers, heads, queries, keys) that a view's last grid stands for."""
    return weights_of(view.grids[-1].weights)


def test_numbers_are_those_that_record_attention_gives(show):
    translator = transformer()
    ids = torch.tensor([translator.encode(TEXT)])
    with record_attention(translator.model) as maps:
        greedy(translator.model, ids, max_new_tokens=ids.shape[1] + 6, vocab_size=CHARACTERS.get_vocab_size())
    page = show(translator.view(TEXT))
    names = {"encoder": "encoder.layers.{}.attention", "decoder": "decoder.layers.{}.attention"}
    names["cross"] = "decoder.layers.{}.cross_attention"
    for kind, path in names.items():
        for layer, head in ((0, 0), (0, 1), (1, 0), (1, 1)):
            [rows] = rows_shown(page, f"#kind={kind}&layer={layer + 1}&head={head + 1}")
            recorded = maps[path.format(layer)][0, head].numpy()
            assert rows.shape == recorded.shape and np.abs(rows - recorded).max() <= 1 / 255
    values = [float(value) for value in page.eval_on_selector_all(".keys data", "all => all.map(data => data.value)")]
    assert texts(page, ".keys data") == [f"{value:.3f}".removeprefix("0") for value in values]


def test_mean_maximum_and_rollout_are_those_of_the_weights(show):
    view = transformer().view(TEXT)
    encoder, _, cross = (weights_of(grid.weights) for grid in view.grids)
    rolled, crossed = (rollout(view.grids[i], view.grids) for i in (0, 2))
    page = show(view)
    expected = {
        "#kind=encoder&layer=all&head=all&how=mean": encoder.mean(axis=(0, 1)),
        "#kind=encoder&layer=1&head=all&how=mean": encoder[0].mean(axis=0),
        "#kind=encoder&layer=all&head=2&how=maximum": encoder[:, 1].max(axis=0),
        "#kind=encoder&layer=2&head=2&how=rollout": encoder[1, 1],
        "#kind=cross&layer=2&head=all&how=mean": cross[1].mean(axis=0),
    }
    for hash, weights in expected.items():
        np.testing.assert_allclose(rows_shown(page, hash)[0], weights, atol=2e-6)
    rollouts = {
        "#kind=encoder&layer=all&head=all&how=rollout": rolled[1],
        "#kind=encoder&layer=1&head=all&how=rollout": rolled[0],
        "#kind=encoder&layer=all&head=2&how=rollout": rolled[1],
        "#kind=cross&layer=all&head=all&how=rollout": crossed[1],
    }
    for hash, weights in rollouts.items():
        np.testing.assert_allclose(rows_shown(page, hash)[0], weights, atol=1 / 255)
    assert page.locator("figcaption").text_content() == "rollout of all layers, all heads"


def test_heads_show_their_entropy_and_distance_and_are_sorted_by_them(show):
    view = made_view(layers=3, heads=2, queries="abcd", keys="wxyz")
    weights = attended(view)
    shares = weights / weights.sum(axis=-1, keepdims=True)
    entropy = (-shares * np.log2(np.maximum(shares, 1e-12))).sum(axis=-1).mean(axis=-1)
    away = np.abs(np.arange(4)[:, None] - np.arange(4))
    distance = (shares * away).sum(axis=-1).mean(axis=-1)
    page = show(view)
    names = page.eval_on_selector_all(".heads button:has(canvas)", "all => all.map(button => button.ariaLabel)")
    assert names == [
        f"layer {layer + 1}, head {head + 1}: entropy {entropy[layer, head]:.2f} bits, "
        f"distance {distance[layer, head]:.2f} tokens"
        for layer in range(3)
        for head in range(2)
    ]
    for order, measure in (("entropy", entropy), ("distance", distance)):
        page.get_by_text(order, exact=True).click()
        places = [f"{i // 2 + 1}.{i % 2 + 1}" for i in measure.ravel().argsort()]
        assert [text.partition(":")[0] for text in texts(page, ".heads small")] == places


def test_a_token_under_the_pointer_shows_its_row_or_column_in_every_model(show):
    one, other = transformer().view(TEXT, title="one"), rnn().view(TEXT, title="other")
    page = show(one, other, hash="#layer=1&head=2")
    first, second = page.locator("article").all()
    first.locator(".tokens.queries button").nth(4).hover()
    assert page.evaluate(CURRENT) == [[4, -1], [4, -1]]
    shown = [float(data.get_attribute("value")) for data in second.locator(".keys data").all()]
    np.testing.assert_allclose(shown, attended(other)[0, 0, 4], atol=1e-6)
    second.locator(".tokens.keys button").nth(2).hover()
    assert page.evaluate(CURRENT) == [[-1, 2], [-1, 2]]
    shown = [float(data.get_attribute("value")) for data in first.locator(".queries data").all()]
    np.testing.assert_allclose(shown, attended(one)[0, 1, :, 2], atol=1e-6)
    assert reading(first).startswith(f"“{TEXT[2]}” is read by")
    page.mouse.move(5, 5)
    assert page.evaluate(CURRENT) == [[0, -1], [0, -1]]  # the first step


def test_the_pointer_on_the_map_goes_through_its_rows_and_its_keys_and_a_click_goes_to_the_step(show):
    view = transformer().view(TEXT)
    page = show(view)
    page.locator(".map canvas").scroll_into_view_if_needed()
    box = page.locator(".map canvas").bounding_box()
    right, bottom = box["x"] + box["width"] - 8, box["y"] + box["height"] - 8
    seen = []
    for y in np.arange(bottom, box["y"], -8):
        page.mouse.move(right, y)
        seen.append(page.evaluate(CURRENT)[0][0])
    assert sorted(set(seen), reverse=True) == list(dict.fromkeys(seen)) and len(set(seen)) > 10
    page.locator(".labels.keys bdi").last.hover()
    assert page.evaluate(CURRENT) == [[-1, len(view.source) - 1]]
    page.mouse.click(right, bottom)
    assert page.locator("#stepped").text_content() == f"{len(view.steps)} of {len(view.steps)}"


def test_the_slider_goes_through_the_steps_of_decoding(show):
    view = transformer().view(TEXT)
    page = show(view)
    for count, step in enumerate(view.steps):
        assert page.locator("#stepped").text_content() == f"{count + 1} of {len(view.steps)}"
        assert page.locator(".sofar").text_content() == step.text
        shown = [float(data.get_attribute("value")) for data in page.locator(".likeliest data").all()]
        assert shown == pytest.approx([probability for _, probability in step.likeliest], abs=1e-6)
        assert texts(page, ".likeliest bdi")[0] == (view.grids[-1].queries[count].strip() or "␣")
        assert page.evaluate(CURRENT) == [[count, -1]]
        page.locator("#step").press("ArrowRight")
    assert f"step={len(view.steps)}" in page.url


def test_everything_is_reached_by_keyboard(show):
    page = show(made_view(layers=2, heads=2, queries="abc", keys="xyz"), made_view(title="other"))
    stops = []
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = "document.activeElement.closest('fieldset, [role=group]')"
        stops.append(page.evaluate(f"{focused}?.id || {focused}?.ariaLabel || ''"))
    order = list(dict.fromkeys(stops))[:6]
    assert order == ["shade", "how", "order", "Queries", "Keys", "Heads"]
    page.locator(".tokens.queries button").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(CURRENT)[0] == [1, -1] and "“b” reads" in reading(page, "#said")
    page.keyboard.press("End")
    assert page.evaluate(CURRENT)[0] == [2, -1]
    page.locator(".heads button[tabindex='0']").first.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowDown", "Enter"):  # the first is "all"; rows have three buttons
        page.keyboard.press(key)
    assert page.locator("figcaption").first.text_content() == "layer 2, head 1"
    assert page.evaluate("document.activeElement.ariaPressed") == "true"


def test_the_address_keeps_what_is_shown(show):
    views = [made_view(layers=3, heads=2, title=title, steps=(Step("", (("a", 1.0),)),) * 3) for title in "ab"]
    page = show(*views, hash="#layer=2&head=1&step=3")
    assert texts(page, "figcaption") == ["layer 2, head 1"] * 2
    assert page.locator("#stepped").text_content() == "3 of 3"
    page.locator(".heads").last.get_by_label("layer 3, head 2").click()
    page.get_by_text("entropy", exact=True).click()
    assert "layer=2,3" in page.url and "head=1,2" in page.url
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert texts(page, "figcaption") == ["layer 2, head 1", "layer 3, head 2"]
    assert page.locator("#order :checked").get_attribute("value") == "entropy"
    page.evaluate(TO_HASH, "#layer=99&head=-7&step=999999&kind=no&how=%&queries=x&shade=pink&constructor=1&__proto__=2")
    assert texts(page, "figcaption") == ["layer 3, head 1"] * 2
    assert page.locator("#stepped").text_content() == "3 of 3"


def test_tokens_read_differently_are_not_linked_and_the_page_says_so(show):
    page = show(made_view(queries="abc", keys="wxyz"), made_view(queries="bcd", keys=["wx", "yz"], title="other"))
    assert texts(page, "#notes li") == [
        "the models read the text as different tokens, which are not linked to one another"
    ]
    for axis in (".queries", ".keys"):
        page.locator("article").first.locator(f".tokens{axis} button").first.hover()
        assert page.evaluate(CURRENT)[1] == [-1, -1]


def test_a_model_without_the_chosen_kind_shows_another_and_says_so(show):
    page = show(transformer().view(TEXT), rnn().view(TEXT), hash="#kind=encoder")
    assert texts(page, ".about") == [
        "encoder self-attention, 2 × 2 heads",
        "cross-attention, as there is no encoder self-attention",
    ]
    assert page.locator(".heads").nth(1).is_hidden()


EVIL = "</script><img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


def test_markup_in_a_text_is_text(show):
    steps = (Step(EVIL, ((EVIL, 0.5),)),) * 3
    view = made_view(queries=[EVIL] * 3, keys=[EVIL, "<b>"], text=EVIL, title=EVIL, steps=steps, notes=(EVIL,))
    page = show(view)
    assert page.locator("h1").text_content() == page.locator("h2").text_content() == EVIL
    assert page.locator("#notes li").text_content() == page.locator(".sofar").text_content() == EVIL
    assert texts(page, ".tokens.keys bdi") == texts(page, ".labels.keys bdi") == [EVIL, "<b>"]
    assert page.locator("img, b").count() == 0 and page.title().startswith("Attention: </script>")


def test_nothing_but_the_page_can_run_or_be_fetched(show):
    page = show(made_view(), expected="Content Security Policy")
    blocked = page.evaluate("""async () => {
        const seen = [];
        addEventListener("securitypolicyviolation", event => seen.push(event.effectiveDirective));
        const add = (tag, properties) => document.body.append(Object.assign(document.createElement(tag), properties));
        add("script", {textContent: "document.title = 'taken'"});
        add("img", {src: "http://example.test/x.png"});
        await fetch("http://example.test/").catch(() => null);
        await new Promise(resolve => setTimeout(resolve, 50));
        return seen;
    }""")
    assert set(blocked) == {"script-src-elem", "img-src", "connect-src"} and page.title() != "taken"


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("שלום", "שלום"),
        ("👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"),
        (" dog", "dog"),
        ("  ", "␣␣"),
        ("\n\t", "↵⇥"),
        ("\x00\x1b[2J", r"\x00\x1b[2J"),
        ("", "◌"),
    ],
)
def test_tokens_of_any_script_are_shown_whole(token, label, show):
    page = show(made_view(keys=[token, "a"], text=token))
    bdi = page.locator(".tokens.keys bdi").first
    assert bdi.text_content() == label and page.locator("h1").text_content() == token.replace("\x00", "\x00")
    assert bdi.evaluate("node => getComputedStyle(node).unicodeBidi") == "isolate"


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


PIXEL = """([x, y]) => {
    const canvas = document.querySelector(".map canvas");
    const copy = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    copy.drawImage(canvas, -Math.floor(x * canvas.width), -Math.floor(y * canvas.height));
    return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


def pixel(page, x=0.8, y=0.8):
    """A colour of the map, at fractions of its width and height; by default that of its last cell."""
    return page.evaluate(PIXEL, [x, y])


def test_dark_and_light_follow_the_system_or_the_choice_and_paper_is_light(show):
    view = View("it", "xy", (Grid("cross", ("a",), ("x", "y"), np.array([[[[255, 0]]]], np.uint8)),))
    page = show(view, color_scheme="light")
    light = background(page), pixel(page)
    assert sum(pixel(page)) > 600
    page.get_by_text("dark", exact=True).click()
    dark = background(page), pixel(page)
    assert "shade=dark" in page.url and sum(pixel(page)) < 200
    page.emulate_media(media="print")
    until(lambda: sum(pixel(page)) > 600)
    assert background(page) == "rgb(255, 255, 255)" and page.locator("#controls").is_hidden()
    page.emulate_media(media="screen")
    until(lambda: (background(page), pixel(page)) == dark)
    page.get_by_text("light", exact=True).click()
    assert (background(page), pixel(page)) == light
    page = show(view, color_scheme="dark")
    assert (background(page), pixel(page)) == dark


def test_one_colour_scale_serves_all_models(show):
    views = [
        View("it", "x", (Grid("cross", ("a",), ("x",), np.full((1, 1, 1, 1), byte, np.uint8)),)) for byte in (9, 99)
    ]
    first, second = (pixel(show(views[i], views[1 - i])) for i in (0, 1))
    alone = pixel(show(views[1]))
    assert first != second == alone


def test_long_texts_are_shown_page_by_page(show):
    tokens = [f"t{i}" for i in range(128)]
    view = made_view(queries=tokens, keys=tokens, kind="decoder")
    page = show(view)
    assert texts(page, ".tokens.queries bdi") == tokens[:48] == texts(page, ".tokens.keys bdi")
    page.get_by_label("later queries").click()
    page.get_by_label("later queries").click()
    page.get_by_label("later keys").click()
    assert texts(page, ".tokens.queries bdi") == tokens[96:] and texts(page, ".tokens.keys bdi") == tokens[48:96]
    assert "queries 97 to 128 of 128" in page.locator(".pages").text_content()
    assert page.get_by_label("later queries").is_disabled()
    page.locator(".tokens.queries button").last.focus()
    shown = [float(value) for value in page.eval_on_selector_all(".keys data", "all => all.map(data => data.value)")]
    np.testing.assert_allclose(shown, attended(view)[0, 0, 127, 48:96], atol=1e-6)
    best = attended(view)[0, 0, 127].argmax()  # wherever it is
    assert f"“t127” reads “t{best}”" in reading(page)


def image_view():
    """A black image of 4 cells, of which the first word reads the last cell and the second all alike."""
    weights = np.array([[[[0, 0, 0, 1.0], [0.25] * 4]]])
    cells = tuple("abcd")
    grid = Grid("image", ("one", "two"), cells, as_bytes(weights), step_rows=(0, 1), cells=(2, 2))
    steps = (Step("", (("one", 0.9),)), Step("one", (("two", 0.8),)))
    return View("captions", "an image", (grid,), steps, image=np.zeros((20, 20, 3), np.uint8))


def test_weights_lie_over_an_image(show):
    page = show(image_view())
    cells = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]
    first = [pixel(page, *cell)[0] for cell in cells]
    assert first[:3] == [0, 0, 0] and first[3] > 150
    assert reading(page) == "“one” reads “row 2, column 2” 1.000"
    page.locator("#step").press("ArrowRight")
    second = [pixel(page, *cell)[0] for cell in cells]
    assert len(set(second)) == 1 and 0 < second[0] < first[3]


def test_axe_finds_no_serious_violation(show):
    translation = transformer().view(TEXT)
    gaps, labels = PIPELINES["bert"]().view("the [MASK] dog [MASK]"), PIPELINES["bert classifier"]().view(TEXT)
    long = made_view(queries=["word"] * 60, keys=["word"] * 60, layers=2, heads=2, kind="decoder")
    translations, others = (translation, rnn().view(TEXT)), (gaps, labels)
    pages = [
        show(*translations),
        show(*others, hash="#order=entropy", color_scheme="dark"),
        show(long),
        show(image_view()),
    ]
    for page in pages:
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["impact"]) for each in found if each["impact"] in ("serious", "critical")] == []


def test_144_heads_of_128_tokens_open_and_answer_the_pointer_at_once(show, capsys):
    random = np.random.default_rng(0)
    weights = np.rint(255 * np.sqrt(random.dirichlet([0.1] * 128, (12, 12, 128)))).astype(np.uint8)
    tokens = tuple(f"token{i}" for i in range(128))
    page = show(View("large", "a long text", (Grid("decoder", tokens, tokens, weights),)))
    opened_after = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    hover = """() => {
        const canvas = document.querySelector(".map canvas"), times = [];
        for (let y = canvas.offsetHeight - 5; y > 60; y -= 10) {
            const started = performance.now();
            const at = {clientX: canvas.getBoundingClientRect().x + 200, clientY: canvas.getBoundingClientRect().y + y};
            canvas.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, ...at}));
            document.body.offsetHeight;
            times.push(performance.now() - started);
        }
        return times.sort((one, other) => one - other);
    }"""
    answered = {}
    for how in ("mean", "rollout"):
        page.get_by_text(how, exact=True).click()
        times = page.evaluate(hover)
        answered[how] = f"{times[len(times) // 2]:.0f} ms, at most {times[-1]:.0f} ms"
    with capsys.disabled():
        print(f"\n12 x 12 heads x 128 tokens: open after {opened_after:.0f} ms; pointer answered within {answered}")
    assert page.locator(".heads button:has(canvas)").count() == 144
    assert page.locator(".tokens.queries button[aria-current='true']").count() == 1


def test_what_is_typed_is_shown_and_refusals_are_said(browser):
    translators = {"one": transformer(), "two": rnn(), "three": PIPELINES["bert classifier"]()}

    def views(text):
        if text == "wrong":
            raise InputError("<b>this</b> text is wrong")
        return [made.view(text, title=title) for title, made in translators.items()]

    with exploring(views) as address, opened(browser, f"http://{address}/", own=f"http://{address}/") as page:
        assert page.locator("#controls").is_hidden()
        page.get_by_label("Text").press_sequentially("the dog")
        page.wait_for_selector("article")
        assert texts(page, "h2") == list(translators)
        until(lambda: "".join(texts(page, "article:first-child .tokens.keys bdi")) == "the␣dog[EOS]")
        page.locator("#step").press("ArrowRight")
        page.get_by_label("Text").press_sequentially("!")
        until(lambda: "never seen in training" in page.locator("#notes").text_content())
        assert page.locator("#stepped").text_content().startswith("2 of")
        page.get_by_label("Text").fill("wrong")
        until(lambda: page.locator("#answered").text_content() == "<b>this</b> text is wrong")
        page.get_by_label("Text").fill("x" * 1001)
        until(lambda: page.locator("#answered").text_content() == "the text is longer than 1000 characters")
