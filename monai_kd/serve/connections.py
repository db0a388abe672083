"""Close connections that send or read too slowly, for which uvicorn waits without a limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .app import LEAST_RATE

__all__ = ["BoundedConnection", "ConnectionLimits"]


@dataclass
class ConnectionLimits:
    """The limits of the connections of one server, and its connections without a request in progress.

    Attributes:
        head_timeout: seconds from the beginning of a connection, or from the previous response, until the request line
            and all headers of the next request have arrived.
        read_timeout: seconds in which a client must read `LEAST_RATE` times as many bytes of the rest of a response.
        most_waiting: largest number of connections without a request in progress. One more closes the oldest connection
            of the address with most of them, so that idle connections of one client do not lock out others.
        waiting: the connections without a request in progress, from the oldest to the newest.
    """

    head_timeout: float = 10.0
    read_timeout: float = 30.0
    most_waiting: int = 64
    waiting: dict[BoundedConnection, None] = field(default_factory=dict, init=False, repr=False)

    def add(self, connection: BoundedConnection) -> None:
        self.waiting[connection] = None
        if len(self.waiting) > self.most_waiting:
            count = Counter(each.address for each in self.waiting)
            (address, _), *_ = count.most_common(1)
            next(each for each in self.waiting if each.address == address).give_up()


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection with timeouts, see `ConnectionLimits`.

    uvicorn's own ``timeout_keep_alive`` only starts after a response, and is cancelled by the first byte of a request.

    Pass ``functools.partial(BoundedConnection, limits)`` as ``http`` to ``uvicorn.Config``.
    """

    def __init__(self, limits: ConnectionLimits, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._unread = 0

    @property
    def address(self) -> str:
        """Of the client."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # pause_writing is then called as soon as the client has bytes to read, resume_writing when none are left.
        transport.set_write_buffer_limits(high=0)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._busy:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A pipelined request is in progress already.
        if not self._busy and not self.transport.is_closing():
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_read_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_read_timer()

    def give_up(self) -> None:
        """Close the connection, which has no request in progress; with 408 if a part of a request has arrived."""
        self._stop_waiting()
        begun, _ = self.conn.trailing_data
        # Browsers open connections in advance, and would show a response that belongs to no request.
        if begun and self.conn.our_state is h11.IDLE:
            self._answer_408()
        self.transport.close()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(self.limits.head_timeout, self.give_up)
        self.limits.add(self)

    def _stop_waiting(self) -> None:
        self.limits.waiting.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _answer_408(self) -> None:
        text = b"the request did not arrive in time"
        headers = [("content-type", "text/plain"), ("content-length", str(len(text))), ("connection", "close")]
        answer = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
        for event in (answer, h11.Data(data=text), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _expect_reading(self) -> None:
        self._stop_read_timer()
        self._unread = self.transport.get_write_buffer_size()
        self._read_timer = self.loop.call_later(self.limits.read_timeout, self._check_reading)

    def _check_reading(self) -> None:
        if self._unread - self.transport.get_write_buffer_size() < LEAST_RATE * self.limits.read_timeout:
            # close() would wait until the rest is read.
            self.transport.abort()
        else:
            self._expect_reading()

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
