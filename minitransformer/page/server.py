"""The server of `minitransformer explore`: the attention page, and the views of the texts that are typed into it.

It listens on 127.0.0.1 alone. Any web page can send requests there, and a name server can give that address to any
name. So it answers only requests to its own address, and texts only from its own page.
"""

import json
import socket
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from minitransformer.errors import InputError
from minitransformer.page.page import page_html, views_json
from minitransformer.page.views import View

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
MOST_CHARACTERS = 1000
"""The longest text that is answered."""
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def serve(views: Callable[[str], Sequence[View]], port: int) -> None:
    """Answer until Ctrl-C. `views(text)` gives the views of a text, or raises `InputError`. Port 0 is any free one."""
    with listening(port) as listener:
        server = server_for(views, listener)
        print(f"http://{address_of(listener)}/  (Ctrl-C ends it)", flush=True)
        server.run(sockets=[listener])


def server_for(views: Callable[[str], Sequence[View]], listener: socket.socket) -> "uvicorn.Server":
    try:
        import uvicorn

        app = application(views, address_of(listener))
    except ImportError:
        raise InputError("explore needs starlette and uvicorn: pip install 'minitransformer[explore]'") from None
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="off"))


def address_of(listener: socket.socket) -> str:
    return f"{HOST}:{listener.getsockname()[1]}"


def listening(port: int) -> socket.socket:
    """A socket of this machine alone; `InputError` for a port that is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(f"--port {port}: {error.strerror}; give another, or 0 for any free one") from error
    return listener


def application(views: Callable[[str], Sequence[View]], address: str) -> "Starlette":
    """The page at / and the views of a text that is sent to /view, as JSON. Texts are answered one after another."""
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route

    own = {address, address.replace(HOST, "localhost")}

    def refused(request: "Request") -> "Response | None":
        """Why a request is not answered."""
        host, origin = request.headers.get("host"), request.headers.get("origin")
        if host not in own or origin not in (None, f"http://{host}") or (request.method == "POST" and origin is None):
            return PlainTextResponse("only the page of this server is answered", 403, HEADERS)
        return None

    async def page(request: "Request") -> "Response":
        return refused(request) or HTMLResponse(page_html([], explore=MOST_CHARACTERS), headers=HEADERS)

    async def view(request: "Request") -> "Response":
        if refusal := refused(request):
            return refusal
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > 4 * MOST_CHARACTERS:  # bytes of UTF-8
                break
        text = body.decode(errors="replace")
        if len(text) > MOST_CHARACTERS:
            return PlainTextResponse(f"the text is longer than {MOST_CHARACTERS:,} characters", 413, HEADERS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the page shows them as notes
                answer = views_json(views(text), explore=MOST_CHARACTERS)
        except InputError as error:
            answer = json.dumps({"refusal": str(error)})
        return Response(answer, media_type="application/json", headers=HEADERS)

    return Starlette(routes=[Route("/", page, methods=["GET"]), Route("/view", view, methods=["POST"])])
