"""The site that `make docs` builds, in a real browser: search, links, messages, requests and the width of code."""

import importlib.util
import os
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from helpers_browser import chromium, opened

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MISSING = [name for name in ("sphinx", "furo", "myst_parser") if importlib.util.find_spec(name) is None]
SCROLLING = """() => [...document.querySelectorAll("pre")]
    .filter(pre => pre.scrollWidth > pre.clientWidth).map(pre => pre.textContent.slice(0, 200))"""


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The site as files, with models that took two steps. Warnings are errors; requests would meet a closed port."""
    if MISSING:
        pytest.skip(f"{', '.join(MISSING)} of the extra docs are not installed: make docs")
    folder = tmp_path_factory.mktemp("site")
    closed = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    command = ["-m", "sphinx", "-q", "-W", "-d", str(folder / "doctrees"), "docs", str(folder / "html")]
    environment = {**os.environ, **closed, "TALK_STEPS": "2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def site(html):
    """Its address on a server of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(html)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def test_search_finds_multi_head_attention(browser, site):
    with opened(browser, f"{site}search.html?q=MultiHeadAttention", own=site, ready="#search-results li a") as page:
        page.wait_for_selector("#search-results li a[href*='minitransformer.attention.MultiHeadAttention']")


def test_pages_give_no_message_ask_nobody_else_and_show_code_without_scrolling(browser, site, html):
    for file in sorted(html.glob("*.html")):
        with opened(browser, site + file.name, own=site, ready="body", viewport={"width": 1400, "height": 900}) as page:
            page.wait_for_load_state("networkidle")
            assert not page.evaluate(SCROLLING), file.name


def test_the_attention_page_is_embedded_live(browser, site):
    with opened(browser, f"{site}attention_page.html", own=site, ready="iframe.attention") as page:
        frame = page.frame_locator("iframe.attention")
        frame.locator("html[data-ready]").wait_for(state="attached")
        assert frame.locator("article").count() == 3


def test_links_inside_lead_somewhere(html):
    pages = {file.relative_to(html).as_posix(): Links(file) for file in html.rglob("*.html")}
    dead = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = unquote(urlsplit(urljoin(name, parts.path or name.rpartition("/")[2])).path)
            anchor = unquote(parts.fragment)
            if not (html / target).is_file() or (anchor and target in pages and anchor not in pages[target].ids):
                dead.append(f"{name}: {link}")
    assert len(pages) > 20 and not dead, dead


class Links(HTMLParser):
    """The ids of a page, and the addresses that it names."""

    def __init__(self, file: Path):
        super().__init__()
        self.ids, self.links = set(), set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src") and value and not value.startswith("data:"):
                self.links.add(value)
