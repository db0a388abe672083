"""``python -m monai_kd serve``: a local web page on which slices are dropped."""

from __future__ import annotations

import ipaddress
import math
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..bundle.students import Students, load_students
from ..config.errors import one_line_errors
from ..extras import require_extra
from .temporary import clear_leftovers

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from .connections import ConnectionLimits

__all__ = ["run_serve"]

LOCAL = ("localhost", "127.0.0.1", "[::1]")
MOST_CONNECTIONS = 128  # of them, at most `ConnectionLimits.most_waiting` without a request


@one_line_errors
def run_serve(host: str = "127.0.0.1", port: int = 8000, max_upload_mb: float = 100, **networks: Any) -> int:
    """Serve the page until interrupted.

    Args:
        host: address or name to listen on; there is no encryption and no authentication.
        port: 0 for a free one.
        max_upload_mb: largest size of one upload, all of its files together; 1 MB = 2^20 bytes.
        networks: arguments of `load_students`.

    Returns:
        the exit code: 0 after an interrupt; 2 when the server could not start, after printing the reason.
    """
    require_extra("serve", ["starlette", "uvicorn", "python_multipart"], "serve")
    if not 0 < max_upload_mb < math.inf:
        raise ValueError(f"--max_upload_mb must be a positive number, got {max_upload_mb}.")
    with _listening(host, port) as listening:
        students = load_students(**networks)
        _serve(students, listening, host, int(max_upload_mb * 2**20))
    return 0


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise OSError(f"--host {host} --port {port}: can't listen there, {error}; give others.") from error


def _serve(students: Students, listening: socket.socket, host: str, most_bytes: int) -> None:
    import uvicorn

    from .app import create_app
    from .connections import ConnectionLimits

    address, port = listening.getsockname()[:2]
    named = f"[{host}]" if ":" in host else host
    hosts = (*LOCAL, named, socket.gethostname())
    app = create_app(students, most_bytes, hosts)
    if leftovers := clear_leftovers():
        print(f"Removed uploads that a killed server left: {', '.join(map(str, leftovers))}", file=sys.stderr)
    if not ipaddress.ip_address(address).is_loopback:
        print(
            f"WARNING: --host {host} can be reached from other computers. There is no password and no encryption: "
            "anyone on the network can use it and read the slices that are sent.",
            file=sys.stderr,
        )
    print(f"Not for diagnosis. Open http://{named}:{port} in a browser; Ctrl+C ends it.", flush=True)
    # uvicorn waits for requests to end, and then raises the interrupt again.
    with suppress(KeyboardInterrupt):
        uvicorn.Server(server_config(app, ConnectionLimits())).run(sockets=[listening])


def server_config(app: ASGIApp, limits: ConnectionLimits) -> uvicorn.Config:
    """uvicorn's configuration; see `ConnectionLimits` for when it closes connections."""
    import uvicorn

    from .app import MOST_HEADERS
    from .connections import BoundedConnection

    return uvicorn.Config(
        app,
        http=partial(BoundedConnection, limits),  # type: ignore[arg-type]
        ws="none",
        log_level="warning",
        # No addresses are logged, and headers of proxies with addresses are not trusted.
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=MOST_HEADERS,
    )
