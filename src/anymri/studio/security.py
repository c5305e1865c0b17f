"""Access control of the studio: the only layer between the network and its routes.

A page of another origin must neither read nor change anything, also if it makes its name resolve to this machine (DNS
rebinding), and another user of this machine must not get in without the token.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# Header that a page of another origin cannot send without a permission that the studio never gives.
MARK = "x-anymri"
READING, CHANGING = ("GET", "HEAD"), ("POST", "DELETE")

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self' blob: data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_AGAIN = "Open the address that `anymri studio` printed in the terminal, or start it again for a new one."


class Guard:
    """ASGI application that lets requests of the studio's own page through to the routes, and refuses all others.

    The token is in the address that the user opens. It is exchanged for a cookie at the first request, so that it is
    in no later address, and in no `Referer`.

    token   what the address has, as `/?token=TOKEN`
    cookie  name of the cookie; it has the port, because cookies of one host are shared by its ports
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], port: int, token: str | None = None) -> None:
        """Create the guard.

        hosts  names and addresses under which the studio is reached, IPv6 addresses in brackets
        """
        self.token = token or secrets.token_urlsafe(32)
        self.cookie = f"anymri-studio-{port}"
        self._app = app
        self._secret = secrets.token_urlsafe(32)
        self._once: set[str] = set()
        self._hosts = {f"{host}:{port}".lower() for host in hosts}
        self._hosts |= {host.lower() for host in hosts} if port == 80 else set()

    def token_for_once(self) -> str:
        """Return a token for a single use: the command line of a browser is visible to other users of the machine."""
        token = secrets.token_urlsafe(32)
        self._once.add(token)
        return token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no web sockets
        refused = self._refusal(scope, Headers(scope=scope))

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (refused or self._app)(scope, receive, send_protected)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the response to a request that does not reach the routes; None for one that does."""
        host = headers.get("host", "").lower()
        method, path = scope["method"], scope["path"]
        if host not in self._hosts:
            return refusal(403, "This name does not lead to the studio.", _AGAIN)
        if method not in (*READING, *CHANGING):
            return refusal(405, "The studio does not take requests of this kind.", _AGAIN)
        if path == "/" and method == "GET" and b"token=" in scope["query_string"]:
            return self._entrance(scope["query_string"])
        if not self._is_known(headers):
            what = "This browser has not been let in yet, or the studio was started again."
            return _closed(what) if path == "/" else refusal(401, what, _AGAIN)
        if _is_foreign(headers, host, method):
            return refusal(403, "The request comes from another page.", _AGAIN)
        return None

    def _entrance(self, query: bytes) -> Response:
        """Exchange a token for the cookie."""
        given = (parse_qs(query.decode("latin-1"), max_num_fields=10).get("token") or [""])[0].encode()
        used = [token for token in self._once if hmac.compare_digest(token.encode(), given)]
        if not (used or hmac.compare_digest(self.token.encode(), given)):
            return _closed("The token in this address is not that of the studio that runs now.")
        self._once.difference_update(used)
        # A page, and not a redirect: after a click on a link elsewhere, browsers send no strict cookie with a redirect.
        refresh = '<meta http-equiv="refresh" content="0; url=/"><p><a href="/">anymri studio</a></p>'
        response = HTMLResponse(_page(refresh))
        response.set_cookie(self.cookie, self._secret, path="/", httponly=True, samesite="strict")
        return response

    def _is_known(self, headers: Headers) -> bool:
        """Return whether a request has the cookie."""
        try:
            found = SimpleCookie("; ".join(headers.getlist("cookie"))).get(self.cookie)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), self._secret.encode())


def _is_foreign(headers: Headers, host: str, method: str) -> bool:
    """Return whether a request comes from a page of another origin, or from a link or form there."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    if method in READING:
        return False
    return headers.get("origin", f"http://{host}").lower() != f"http://{host}" or headers.get(MARK) != "1"


def refusal(status: int, what: str, fix: str) -> JSONResponse:
    """Return an error as the page shows it: what is wrong, and what to do."""
    return JSONResponse({"error": {"what": what, "fix": fix}}, status)


def _closed(what: str) -> HTMLResponse:
    return HTMLResponse(_page(f"<h1>anymri studio</h1><p>{what}</p><p>{_AGAIN}</p>"), 401)


def _page(body: str) -> str:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>anymri studio</title>'
    head += '<link rel="icon" href="data:,">'  # or browsers request one
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'
