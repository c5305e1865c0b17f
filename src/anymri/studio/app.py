"""The application of the studio: its addresses, the files of its page, and its errors as the page shows them."""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from anymri.errors import AnymriError
from anymri.files import sha256
from anymri.studio import handlers
from anymri.studio.security import refusal
from anymri.studio.studio import NotFoundError, Studio
from anymri.studio.uploads import UploadError
from anymri.studio.words import plain_words

ASSETS = Path(__file__).parent / "assets"
# Types that browsers insist on, whatever the registry of this machine says.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_CASE = "/api/cases/{id}"
_ROUTES: tuple[tuple[str, str, handlers.Handler], ...] = (
    ("GET", "/api/state", handlers.state),
    ("POST", "/api/uploads", handlers.upload),
    ("GET", _CASE, handlers.case),
    ("DELETE", _CASE, handlers.close),
    ("GET", f"{_CASE}/files/{{name}}", handlers.file),
    ("POST", f"{_CASE}/examine", handlers.examine),
    ("POST", f"{_CASE}/assignment", handlers.assign),
    ("POST", f"{_CASE}/prepare", handlers.prepare),
    ("POST", f"{_CASE}/segment", handlers.segment),
    ("GET", f"{_CASE}/subsets", handlers.subsets),
    ("POST", f"{_CASE}/subsets", handlers.begin_subsets),
    ("POST", f"{_CASE}/compare", handlers.compare),
    ("POST", f"{_CASE}/correction", handlers.correct),
    ("GET", f"{_CASE}/result.zip", handlers.archive),
    ("GET", f"{_CASE}/report.html", handlers.report),
    ("GET", "/api/jobs/{id}", handlers.job),
    ("POST", "/api/jobs/{id}/cancel", handlers.cancel),
    ("GET", "/api/evaluations/{id}", handlers.evaluation),
    ("POST", "/api/evaluations/{id}/open", handlers.open_evaluated),
)
_log = logging.getLogger(__name__)


def create_app(studio: Studio) -> Starlette:
    """Return the application of a studio, without its guard, see `anymri.studio.security`."""
    pages = (("GET", "/", _index), ("GET", "/assets/{path:path}", _asset))
    routes = [Route(path, handler, methods=[method]) for method, path, handler in (*pages, *_ROUTES)]
    app = Starlette(routes=routes, exception_handlers=_HANDLERS)
    app.router.redirect_slashes = False
    app.state.studio = studio
    app.state.assets = {p.relative_to(ASSETS).as_posix(): p for p in sorted(ASSETS.rglob("*")) if p.is_file()}
    return app


async def _index(request: Request) -> Response:
    return await _send_asset(request, "index.html")


async def _asset(request: Request) -> Response:
    return await _send_asset(request, request.path_params["path"])


async def _send_asset(request: Request, name: str) -> Response:
    """Send a file of the page; only names that were there at the start exist, so that no path leads elsewhere."""
    file: Path | None = request.app.state.assets.get(name)
    if file is None:
        raise NotFoundError("The studio does not have this file.", "Load the page again.")
    headers = {"ETag": f'"{sha256(file)}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return FileResponse(file, headers=headers, media_type=kind)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnymriError)
    status = 404 if isinstance(error, NotFoundError) else 413 if isinstance(error, UploadError) else 400
    return refusal(status, plain_words(error.what), plain_words(error.fix))


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, "The studio has no such address.", "Load the page again.")


async def _failed(request: Request, error: Exception) -> Response:
    _log.debug("%s %s", request.method, request.url.path, exc_info=error)
    what = f"Unexpected error: {type(error).__name__}."
    return refusal(500, what, "This is a bug: start the studio with --log-file FILE, repeat it, and report the file.")


async def _left(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


_HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    AnymriError: _refused,
    HTTPException: _unknown,
    ClientDisconnect: _left,
    Exception: _failed,
}
