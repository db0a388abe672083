"""The Starlette application: the page, and the request that examines uploaded files."""

from __future__ import annotations

import errno
import logging
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from urllib.parse import urlsplit

from anyio import CapacityLimiter, WouldBlock, fail_after, to_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..bundle.students import Students
from ..pages import page_template
from .headers import MOST_PIXELS, TooManyPixels
from .uploads import examine_uploads

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

MOST_FILES = 1000
MOST_HEADERS = 2**14  # bytes, of all together
MOST_UPLOADS = 32  # at the same time; they are examined one after the other
LONGEST_SILENCE = 30.0  # seconds without any byte of an upload
LEAST_RATE = 10_000  # bytes per second, on average, of an upload, and of a response that is being read
STATIC = {
    "/page.css": ("monai_kd.pages", "text/css"),
    "/serve.css": ("monai_kd.serve", "text/css"),
    **{f"/{name}.js": ("monai_kd.serve", "text/javascript") for name in ("serve", "study", "viewer")},
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Responses hold slices of patients, which browsers must not cache.
    "Cache-Control": "no-store",
}


def create_app(students: Students, most_bytes: int, hosts: Sequence[str]) -> Starlette:
    """``GET /`` returns the page, ``POST /slices`` examines uploaded files, ``GET /health`` responds at any time.

    Networks run for one upload at a time, in a worker thread, so that the server stays responsive.

    Args:
        students: the networks.
        most_bytes: largest size of one upload, all of its files together.
        hosts: accepted values of the ``Host`` header; others are rejected with 400, which prevents DNS rebinding.
    """
    # Its messages quote bytes of uploads.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)
    one, uploading = CapacityLimiter(1), CapacityLimiter(MOST_UPLOADS)
    page = page_template("serve.html.jinja", __package__).render(
        checkpoints=students.checkpoints,
        threshold=students.segment.threshold,
        rules=students.segment.rules,
        finds=students.segment.finds,
        temperature=students.classify.value("temperature"),
        version=__version__,
        most_bytes=most_bytes,
        most_pixels=MOST_PIXELS,
    )

    async def index(request: Request) -> Response:
        return Response(page, media_type="text/html")

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def slices(request: Request) -> Response:
        if _from_elsewhere(request.headers):
            raise HTTPException(403, "only the page of this server may upload to it")
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise HTTPException(415, "files are expected as multipart/form-data, in fields called files")
        request = Request(request.scope, _limited(request, most_bytes))
        try:
            uploading.acquire_nowait()
        except WouldBlock:
            raise HTTPException(503, f"{MOST_UPLOADS} uploads are in progress: try again later") from None
        try:
            async with request.form(max_files=MOST_FILES, max_fields=0) as form:
                uploads = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
                if not uploads:
                    raise HTTPException(422, "there is no file in a field called files")
                contents = [(each.filename or "", each.file) for each in uploads]
                answers = await to_thread.run_sync(examine_uploads, contents, students, limiter=one)
        except TooManyPixels as error:
            raise HTTPException(413, str(error)) from None
        except MemoryError:
            raise HTTPException(413, "it does not fit into memory") from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise _unforeseen(error) from None
            logger.error("an upload failed: the disk with %s is full", tempfile.gettempdir())
            raise HTTPException(507, "the disk of the server is full") from None
        except ClientDisconnect:
            return Response(status_code=400)
        except HTTPException:
            raise
        except Exception as error:
            raise _unforeseen(error) from None
        finally:
            uploading.release()
        content: dict[str, object] = {"files": answers}
        statuses = {answer["status"] for answer in answers}
        if "ok" in statuses:
            return JSONResponse(content)
        content["error"] = "; ".join(dict.fromkeys(answer["reason"] for answer in answers))
        return JSONResponse(content, 422 if "failed" in statuses else 415)

    routes = [Route("/", index), Route("/health", health), Route("/slices", slices, methods=["POST"])]
    for path, (package, kind) in STATIC.items():
        content = resources.files(package).joinpath(path[1:]).read_text(encoding="utf-8")
        routes.append(Route(path, _static(content, kind)))
    middleware = [Middleware(_SafeHeaders), Middleware(TrustedHostMiddleware, list(hosts), www_redirect=False)]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: _error_response})


def _static(content: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def file(request: Request) -> Response:
        return Response(content, media_type=kind)

    return file


def _unforeseen(error: Exception) -> HTTPException:
    # Only the type and the line of code, because messages may quote the file.
    last = traceback.extract_tb(error.__traceback__)[-1]
    logger.error("an upload failed with %s at %s:%s", type(error).__name__, last.filename, last.lineno)
    return HTTPException(500, f"the server failed on this upload ({type(error).__name__}), and continues to run")


async def _error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for no other"
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _from_elsewhere(headers: Headers) -> bool:
    """Whether a browser sends the request for a page of another site. Other programs do not send these headers."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    except ValueError:  # no address of a page
        return True


def _limited(request: Request, most: int) -> Receive:
    """The request's body, aborted with 413 as soon as it is known to be too long, and with 408 when it is too slow."""
    error = HTTPException(413, f"the upload is bigger than the {most / 2**20:g} MB that this server accepts")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise error
    left, waited = most, 0.0

    async def receive() -> Message:
        nonlocal left, waited
        due = LONGEST_SILENCE + (most - left) / LEAST_RATE
        began = time.monotonic()
        try:
            with fail_after(min(LONGEST_SILENCE, due - waited)):
                message = await request.receive()
        except TimeoutError:
            raise HTTPException(
                408,
                f"nothing more of the upload came for {LONGEST_SILENCE:g} seconds, or less than "
                f"{LEAST_RATE / 1000:g} kB a second on average",
                # The rest of the upload must not be parsed as the next request.
                headers={"Connection": "close"},
            ) from None
        waited += time.monotonic() - began
        left -= len(message.get("body", b""))
        if left < 0:
            raise error
        return message

    return receive


class _SafeHeaders:
    """Refuses long headers, and adds some that restrict the page to its own script, pictures and server."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # uvicorn bounds what of them is incomplete after each read, which may bring more at once.
        if scope["type"] == "http" and sum(len(part) for pair in scope["headers"] for part in pair) > MOST_HEADERS:
            answer = JSONResponse({"error": "the headers are too long"}, 431, headers=HEADERS)
            await answer(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)
