"""The server of `minitransformer explore`: whom it answers, and what."""

import json
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection

import pytest
from helpers_page import data_of, exploring, made_view, rnn
from helpers_scripts import refused

from minitransformer import InputError
from minitransformer.__main__ import main as command
from minitransformer.page import server


def views(text):
    if text == "wrong":
        raise InputError("this text is wrong")
    return [made_view(text=text)]


@pytest.fixture(scope="module")
def address():
    with exploring(views) as address:
        yield address


def asked(address, method="POST", path="/view", body=b"a text", **headers):
    """The status and the text of an answer."""
    connection = HTTPConnection(address, timeout=10)
    connection.request(method, path, body if method == "POST" else None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status >= 400 or answer.headers["Cache-Control"] == "no-store"
    return answer.status, text


def test_its_page_may_ask_it_alone_and_its_answer_is_the_views_of_the_text(address):
    status, html = asked(address, "GET", "/")
    assert (status, data_of(html)) == (200, {"explore": server.MOST_CHARACTERS, "notes": [], "views": []})
    assert "connect-src 'self'" in html
    status, answer = asked(address, Origin=f"http://{address}")
    assert (status, json.loads(answer)["views"][0]["text"]) == (200, "a text")
    port = address.partition(":")[2]
    local = dict(Host=f"localhost:{port}", Origin=f"http://localhost:{port}")
    assert asked(address, **local)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        dict(Origin="http://evil.example"),
        dict(Origin="null"),
        dict(Host="evil.example", Origin="http://evil.example"),
        dict(Host="evil.example"),
    ],
)
def test_other_pages_and_other_names_of_the_machine_are_refused(address, headers):
    assert asked(address, **headers) == (403, "only the page of this server is answered")
    if "Host" in headers:
        assert asked(address, "GET", "/", Host=headers["Host"])[0] == 403


def test_there_is_nothing_else_to_ask_for(address):
    own = dict(Origin=f"http://{address}")
    assert asked(address, "GET", "/view")[0] == 405 and asked(address, "POST", "/", **own)[0] == 405
    assert asked(address, "GET", "/page.js")[0] == asked(address, "GET", "/../pyproject.toml")[0] == 404


def test_texts_that_cannot_be_shown_are_answered_with_one_line(address):
    own = dict(Origin=f"http://{address}")
    status, answer = asked(address, body=b"wrong", **own)
    assert (status, json.loads(answer)) == (200, {"refusal": "this text is wrong"})
    most = server.MOST_CHARACTERS
    assert asked(address, body="é".encode() * most, **own)[0] == 200
    for body in ("é".encode() * (most + 1), b"x" * 100 * most):
        assert asked(address, body=body, **own) == (413, f"the text is longer than {most:,} characters")
    assert json.loads(asked(address, body=b"\xff", **own)[1])["views"][0]["text"] == "\ufffd"


def test_it_listens_on_this_machine_alone_and_a_taken_port_is_refused(capsys, tmp_path):
    run = rnn().save(tmp_path / "run")
    with server.listening(0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        line = refused(capsys, ["explore", str(run), "--port", str(port)], command)
    assert line == f"error: --port {port}: Address already in use; give another, or 0 for any free one"
    assert "--port 65536 must be" in refused(capsys, ["explore", str(run), "--port", "65536"], command)
    assert "give a run" in refused(capsys, ["explore"], command)


def test_without_the_extra_one_line_says_what_to_install(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    line = refused(capsys, ["explore", str(rnn().save(tmp_path / "run")), "--port", "0"], command)
    assert line == "error: explore needs starlette and uvicorn: pip install 'minitransformer[explore]'"


def test_the_command_answers_until_ctrl_c(tmp_path):
    run = rnn().save(tmp_path / "run")
    arguments = [sys.executable, "-m", "minitransformer", "explore", str(run), "--port", "0"]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = re.match("http://(.*)/ ", child.stdout.readline())[1]
    status, answer = asked(address, body=b"the dog!", Origin=f"http://{address}")
    found = json.loads(answer)
    assert (status, [view["title"] for view in found["views"]]) == (200, ["run"])
    assert any("never seen" in note for note in found["notes"])
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=30) == 130
    assert child.stderr.read() == ""
