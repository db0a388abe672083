"""Slow and idle connections, over real sockets: they are closed, and shut nobody out."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs monai_kd[serve]")
from starlette.applications import Starlette  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from monai_kd.serve.app import MOST_HEADERS  # noqa: E402
from monai_kd.serve.command import server_config  # noqa: E402
from monai_kd.serve.connections import ConnectionLimits  # noqa: E402

LONG = 2**25  # bytes; more than the buffers of both ends take
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
QUICK = ConnectionLimits(head_timeout=0.5, read_timeout=0.5)


async def short(request: Request) -> Response:
    return PlainTextResponse("short")


async def long(request: Request) -> Response:
    return PlainTextResponse(bytes(LONG))


@contextmanager
def serving(limits: ConnectionLimits) -> Iterator[tuple[tuple[str, int], uvicorn.Server]]:
    app = Starlette(routes=[Route("/", short, methods=["GET", "POST"]), Route("/long", long)])
    server = uvicorn.Server(server_config(app, limits))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname(), server
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    connection.settimeout(10)
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)


def asked(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return rest_of(connection)


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"GET /", b"HTTP/1.1 408 ", id="half a request line"),
        pytest.param(GET[:-4], b"HTTP/1.1 408 ", id="half of the headers"),
        pytest.param(b"\r\n" * 100, b"HTTP/1.1 400 ", id="empty lines"),
        pytest.param(GET, b"HTTP/1.1 200 ", id="kept alive"),
        pytest.param(GET + b"GET / HT", b"HTTP/1.1 200 ", id="half of a second request"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n", b"HTTP/1.1 200 ", id="unread body"
        ),
    ],
)
def test_a_request_that_does_not_come_is_given_up(sent, answered):
    with serving(QUICK) as (address, server), socket.create_connection(address) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        assert rest_of(connection).startswith(answered)
        assert time.monotonic() - began < 5
        assert not QUICK.waiting
    assert not server.server_state.connections


@pytest.mark.parametrize("begun", [b"G", b"POST / HTTP/1.1\r\nContent-Length: 9999\r\nHost: localhost\r\n\r\n"])
def test_a_byte_now_and_then_keeps_no_connection(begun):
    """uvicorn forgets its own timeout with every byte that comes."""
    with serving(QUICK) as (address, _), socket.create_connection(address) as connection:
        connection.sendall(begun)
        connection.settimeout(0.1)
        began = time.monotonic()
        closed = False
        while not closed and time.monotonic() - began < 5:
            try:
                connection.sendall(b"x")
                while connection.recv(2**16):
                    pass
                closed = True
            except TimeoutError:
                continue
            except OSError:
                closed = True
        assert closed


def test_half_open_connections_shut_nobody_out():
    limits = ConnectionLimits(head_timeout=20, most_waiting=48)
    with serving(limits) as (address, server), ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(address)) for _ in range(64)]
        for number, connection in enumerate(held):
            connection.sendall(b"GET /" if number % 2 else GET[:-2])
        for _ in range(3):
            assert asked(address).startswith(b"HTTP/1.1 200 ")
        assert len(server.server_state.connections) <= limits.most_waiting
        # The oldest are closed first; the last may still end their request.
        rest_of(held[0])
        held[-2].sendall(b"\r\n")
        held[-2].settimeout(10)
        assert held[-2].recv(2**16).startswith(b"HTTP/1.1 200 ")


def test_connections_of_one_address_do_not_close_those_of_others():
    class Connection:
        def __init__(self, address: str) -> None:
            self.address, self.closed = address, False

        def give_up(self) -> None:
            self.closed = True
            limits.waiting.pop(self)

    limits = ConnectionLimits(most_waiting=3)
    alone, *many = (Connection(address) for address in "abbbb")
    for each in (alone, *many):
        limits.add(each)
    assert [each.closed for each in (alone, *many)] == [False, True, True, False, False]


@pytest.mark.parametrize("closing", [False, True])
def test_an_answer_that_nobody_reads_is_given_up(closing):
    with serving(QUICK) as (address, server), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        head = b"GET /long HTTP/1.1\r\nHost: localhost\r\n" + (b"Connection: close\r\n" if closing else b"")
        connection.sendall(head + b"\r\n")
        until = time.monotonic() + 8
        connected = False
        while time.monotonic() < until:
            connected = connected or bool(server.server_state.connections)
            if connected and not server.server_state.connections:
                break
            time.sleep(0.05)
        assert connected
        assert not server.server_state.connections
        assert not server.server_state.tasks


def test_an_answer_that_is_read_slowly_but_steadily_comes_whole():
    with serving(QUICK) as (address, _), socket.create_connection(address) as connection:
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        connection.settimeout(10)
        got = 0
        while part := connection.recv(2**19):
            got += len(part)
            time.sleep(0.02)
        assert got > LONG


def test_headers_are_bounded():
    with serving(ConnectionLimits()) as (address, _), socket.create_connection(address) as connection:
        connection.sendall(GET[:-2] + b"X: " + b"a" * (MOST_HEADERS + 1))
        assert rest_of(connection).startswith(b"HTTP/1.1 400 ")
