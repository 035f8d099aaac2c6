"""A real browser: Debian's chromium, driven by Playwright."""

import os
import shutil
import time
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium")
OPTIONS = ["--disable-background-networking", *["--no-sandbox"] * (os.geteuid() == 0)]


@contextmanager
def chromium():
    """The browser. Without one the tests are skipped; on CI they fail."""
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


def until(condition, seconds=5):
    """Waits for a condition; the policy of a page forbids Playwright to wait in it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@contextmanager
def opened(browser, url, *, own=None, expected="", ready="html[data-ready]", **options):
    """The page at `url`, when it has an element `ready`. It may ask for addresses that begin with `own`, by default for
    itself; other requests are blocked. At the end neither those nor messages on the console may have been seen, except
    `expected` ones."""
    own, messages, requests = own or url.partition("#")[0], [], []
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    page = context.new_page()
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))

    def answer(route):
        if route.request.url.startswith(own):
            route.continue_()
        else:
            requests.append(route.request.url)
            route.abort()

    context.route("**/*", answer)
    page.goto(url)
    page.wait_for_selector(ready, state="attached")
    yield page
    messages = [message for message in messages if not expected or expected not in message]
    assert not messages and not requests, (messages, requests)
    context.close()
