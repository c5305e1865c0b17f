"""Connections whose bytes are counted, so that no peer can fill the memory."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

# Bytes before an association is established: its request has some kilobytes.
_BYTES_OF_A_REQUEST = 300_000
# Messages are small, and are not collected or acknowledged late: that would cost 40 ms per object. Only on Linux.
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)
# Memory of messages beside their object.
_BYTES_OF_COMMANDS = 100_000


class InFlight:
    """Bytes and connections of all peers of a server at a time.

    connections  number of open connections
    """

    def __init__(self, most: int) -> None:
        self._most, self._bytes, self._lock = most, 0, threading.Lock()
        self.connections = 0

    def add(self, count: int) -> bool:
        """Add bytes, and return whether there are not too many now."""
        with self._lock:
            self._bytes += count
            return self._bytes <= self._most

    def connect(self, change: int) -> None:
        """Count a connection that begins (1) or ends (-1)."""
        with self._lock:
            self.connections += change


class Connection(socket.socket):
    """Socket that counts what it receives: beyond a limit, `recv` raises `OSError`, which ends the association.

    objects  objects received so far
    """

    _in_flight: InFlight | None = None

    def limit(self, in_flight: InFlight, bytes_per_object: int, idle_seconds: float) -> None:
        """Set the limits: before the association is established, only those of its request."""
        in_flight.connect(1)
        self._in_flight, self._most = in_flight, bytes_per_object + _BYTES_OF_COMMANDS
        self._limit, self._bytes, self.objects = _BYTES_OF_A_REQUEST, 0, 0
        self.settimeout(idle_seconds)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return received bytes; raise `OSError` beyond the limits."""
        received = super().recv(buflen, flags)
        if self._in_flight is not None:
            if _QUICK_ACK is not None:  # it holds for one answer
                self.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
            self._bytes += len(received)
            if not self._in_flight.add(len(received)) or self._bytes > self._limit:
                raise OSError("more bytes than are allowed")
        return received

    def establish(self) -> None:
        """Allow as many bytes as an object has, after the association was accepted."""
        self._limit = self._most
        self.finish()

    def finish(self) -> None:
        """Begin to count again, after an object."""
        if self._in_flight is not None:
            self._in_flight.add(-self._bytes)
            self._bytes = 0

    def shutdown(self, how: int) -> None:
        """End the connection; nothing happens if the peer has ended it, so that it is closed in any case."""
        with suppress(OSError):
            super().shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            in_flight.add(-self._bytes)
            in_flight.connect(-1)
        super().close()


class TLSConnection(Connection, ssl.SSLSocket):
    """The same with TLS."""
