"""Download of weights: https only, of bounded size, and only where a command asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from anymri.errors import WeightsError

LARGEST_BYTES = 2_000_000_000
_CHUNK_BYTES = 1 << 20
# Longest wait for the next bytes.
_SECONDS = 60


def check_url(url: str) -> None:
    """Raise `WeightsError` for a URL that is not one of https with a host."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        fits = False
    if not fits:
        raise WeightsError(
            f"{url} is not a URL of https.",
            "Give a URL that begins with https://, or download the file and add it by its path.",
        )


def chunks(url: str) -> Iterator[bytes]:
    """Yield the content of a URL; raise `WeightsError` if it cannot be read, ends early or is too large."""
    try:
        with open_url(url) as response:
            stated = response.headers.get("Content-Length") or ""
            length = int(stated) if stated.isdecimal() else None
            _check_size(url, length or 0)
            count = 0
            while chunk := response.read(_CHUNK_BYTES):
                count += len(chunk)
                _check_size(url, count)
                yield chunk
    except (OSError, HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise WeightsError(
            f"{url} cannot be downloaded: {reason.rstrip('.')}.",
            "Check the address and the connection, or download the file otherwise and add it by its path.",
        ) from error
    if length is not None and count < length:
        raise WeightsError(
            f"The download of {url} ended after {count:,} of {length:,} bytes.", "Run the same command again."
        )


def open_url(url: str) -> AbstractContextManager[Any]:
    """Open a URL, following redirections to https alone."""
    opened: AbstractContextManager[Any] = build_opener(_HttpsRedirections).open(url, timeout=_SECONDS)
    return opened


class _HttpsRedirections(HTTPRedirectHandler):
    """Handler that refuses redirections away from https."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_size(url: str, count: int) -> None:
    if count > LARGEST_BYTES:
        raise WeightsError(
            f"{url} has more than {LARGEST_BYTES // 10**9} GB, the largest size of a download.",
            "Check the address; larger weights can be added by their path.",
        )
