"""Who gets into the studio, and what pages of others cannot do."""

import re

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from anymri.studio.security import LOOPBACK, Guard
from anymri.studio.server import Place
from studio.opened import BASE, MARKED, PORT, TestClient

COOKIE = f"anymri-studio-{PORT}"


async def reply(request):
    return PlainTextResponse("inside")


@pytest.fixture
def guard():
    methods = ["GET", "POST", "DELETE", "PUT"]
    return Guard(
        Starlette(routes=[Route(path, reply, methods=methods) for path in ("/", "/api/state")]), LOOPBACK, PORT
    )


@pytest.fixture
def stranger(guard):
    return TestClient(guard, base_url=BASE, follow_redirects=False)


@pytest.fixture
def inside(guard, stranger):
    stranger.get(f"/?token={guard.token}")
    return stranger


def test_token_is_exchanged_for_a_strict_cookie_that_scripts_cannot_read(guard, stranger):
    entered = stranger.get(f"/?token={guard.token}")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert guard.token not in cookie and guard.token not in entered.text
    assert stranger.get("/").text == "inside"


@pytest.mark.parametrize("query", ["token=", "token=x", "token=%ff%00", "token=" + "a" * 5000, "token=é"])
def test_wrong_token_gives_a_page_that_says_how_to_get_in(stranger, query):
    refused = stranger.get(f"/?{query}")
    assert refused.status_code == 401 and "set-cookie" not in refused.headers
    assert "anymri studio" in refused.text and "text/html" in refused.headers["content-type"]


def test_tokens_for_once_are_valid_once_and_the_printed_one_stays_valid(guard, stranger):
    once = guard.token_for_once()
    assert [stranger.get(f"/?token={once}").status_code for _ in range(2)] == [200, 401]
    assert [stranger.get(f"/?token={guard.token}").status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("path", ["/", "/api/state", "/assets/main.js"])
def test_without_the_cookie_nothing_is_reached(stranger, path):
    assert stranger.get(path).status_code == 401
    assert stranger.get(path, headers={"Cookie": f"{COOKIE}=guess"}).status_code == 401
    assert stranger.get(path, headers={"Cookie": '"; =;;'}).status_code == 401


def test_refusals_are_errors_that_the_page_can_show(stranger):
    error = stranger.get("/api/state").json()["error"]
    assert error["what"] and "anymri studio" in error["fix"]


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", f"127.0.0.1.evil.example:{PORT}", ""]
)
def test_other_names_of_this_machine_are_refused(inside, host):
    # A page whose name is made to resolve to 127.0.0.1 sends that name.
    assert inside.get("/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", [f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_names_of_the_loopback_are_accepted(guard, stranger, host):
    assert stranger.get(f"/?token={guard.token}", headers={"Host": host}).status_code == 200


def test_changes_need_the_header_and_the_origin_of_the_page(inside):
    def change(**headers):
        return inside.post("/api/state", headers=headers).status_code

    own = {"Origin": BASE}
    assert change(**own, **MARKED) == 200 and change(**MARKED) == 200
    assert change(**own) == 403
    assert change(Origin="http://evil.example", **MARKED) == 403
    assert change(Origin="null", **MARKED) == 403
    assert change(Origin=f"http://127.0.0.1:{PORT + 1}", **MARKED) == 403
    assert change(**own, **MARKED, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert inside.delete("/api/state", headers=own).status_code == 403


def test_links_of_other_pages_lead_nowhere(inside):
    assert inside.get("/api/state", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert inside.get("/api/state", headers={"Sec-Fetch-Site": "same-site"}).status_code == 403
    assert inside.get("/api/state", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(inside, method):
    # Without an answer to OPTIONS, no browser lets another page send the header.
    refused = inside.request(method, "/api/state", headers=MARKED)
    assert refused.status_code == 405 and "access-control-allow-origin" not in refused.headers


def test_every_response_has_the_headers_that_protect_it(guard, stranger):
    for path in ("/", f"/?token={guard.token}", "/api/state"):
        headers = stranger.get(path).headers
        assert headers["referrer-policy"] == "no-referrer" and headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY" and headers["cache-control"] == "no-store"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert re.search(r"script-src 'self'(;|$)", policy)


def test_only_loopback_addresses_are_loopback():
    assert Place().is_loopback and Place("localhost").is_loopback and Place("::1").is_loopback
    assert not Place("0.0.0.0").is_loopback and not Place("192.0.2.1").is_loopback and not Place("host").is_loopback
    assert Place("192.0.2.1").names() == {"192.0.2.1"}
    assert set(LOOPBACK) < Place("0.0.0.0").names()
