"""The studio as a process: its socket, its temporary folder, and an orderly end."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from anymri.errors import ConfigurationError
from anymri.studio.entries import Entries
from anymri.studio.jobs import Jobs
from anymri.studio.security import LOOPBACK, Guard
from anymri.studio.studio import Studio
from anymri.studio.weights import offered

_FOLDERS, _LOCK = "anymri-studio-", "lock"


@dataclass(frozen=True)
class Place:
    """Host and port of a studio.

    host  address or name of this machine
    port  0 for any free port
    """

    host: str = "127.0.0.1"
    port: int = 0

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can reach it."""
        if self.host.lower() == "localhost":
            return True
        with suppress(ValueError):
            return ip_address(self.host).is_loopback
        return False

    def names(self) -> set[str]:
        """Return the names under which browsers may address it, IPv6 addresses in brackets."""
        found = {f"[{self.host}]" if ":" in self.host else self.host}
        if self.is_loopback:
            return found | set(LOOPBACK)
        with suppress(ValueError):
            if ip_address(self.host).is_unspecified:  # all addresses of this machine
                found |= {*LOOPBACK, socket.gethostname(), socket.getfqdn(), *_addresses()}
        return found

    def listen(self) -> socket.socket:
        """Return a socket that listens there; raise `ConfigurationError` if that is not possible."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.host, self.port))
            listening.listen(128)
        except OSError as error:
            listening.close()
            in_use = error.errno == errno.EADDRINUSE
            raise ConfigurationError(
                f"The studio cannot use the port {self.port} of {self.host}: {error.strerror or error}.",
                "Choose another one with --port, or 0 for any." if in_use else "Choose another --host or --port.",
            ) from error
        return listening


def _addresses() -> set[str]:
    """Return the addresses of this machine."""
    with suppress(OSError):
        return {str(each[4][0]) for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return set()


def run(
    paths: Sequence[Path],
    weights: Sequence[Path],
    corrections: Path,
    scheme: str | None = None,
    place: Place = Place(),
    computing: Mapping[str, Any] | None = None,
    ready: Callable[[str, str], None] = lambda url, once: None,
) -> str:
    """Serve the studio until it is interrupted, and return its address without the token.

    paths        what is open: cases, results, evaluations, folders of these
    weights      files, run folders or names of weights; by default all that are installed
    corrections  folder for corrected label maps
    scheme       label scheme of expert label maps; None for that of the weights
    place        where it listens
    computing    arguments of the `Desk`
    ready        called with the address for the user, and with one that is valid once

    Raises an `AnymriError` for a path that cannot be opened, or a port that cannot be used.
    """
    with place.listen() as listening, temporary_folder() as folder:
        port = int(listening.getsockname()[1])
        entries = Entries(folder)
        for path in paths:
            entries.open(path, scheme)
        with Jobs(computing or {}) as jobs:
            evaluations = [entry.evaluation for entry in entries if entry.evaluation is not None]
            offers = offered(weights, evaluations)
            studio = Studio(entries, jobs, offers, corrections, scheme, named=bool(weights))
            host = f"[{place.host}]" if ":" in place.host else place.host
            url = f"http://{host}:{port}/"
            _serve(studio, listening, place.names(), port, url, ready)
    return url


def _serve(
    studio: Studio,
    listening: socket.socket,
    names: set[str],
    port: int,
    url: str,
    ready: Callable[[str, str], None],
) -> None:
    import uvicorn

    from anymri.studio.app import create_app

    guard = Guard(create_app(studio), names, port)

    class Server(uvicorn.Server):
        """Server that ends with Ctrl-C or SIGTERM, so that the temporary folder is removed."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """End the server by signals while it runs."""
            before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)

    config = uvicorn.Config(
        guard,
        access_log=False,  # addresses have the token
        log_level="warning",
        log_config=None,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    ready(f"{url}?token={guard.token}", f"{url}?token={guard.token_for_once()}")
    Server(config).run(sockets=[listening])


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is readable for this user alone and removed at the end.

    Folders that a killed studio left are removed first: their lock is free.
    """
    from filelock import FileLock, Timeout

    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*"):
        with suppress(OSError, Timeout):
            if left.is_symlink() or left.stat().st_uid != _user():
                continue
            with FileLock(left / _LOCK, timeout=0):
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDERS))
    lock = FileLock(folder / _LOCK)
    try:
        with lock:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0
