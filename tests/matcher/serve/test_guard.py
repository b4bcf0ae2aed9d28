"""What every request must pass, and what every answer carries."""

import re

import pytest
from starlette.testclient import TestClient

from matcher.serve.app import build_app
from matcher.serve.guard import MAX_FORM, MAX_JSON, MAX_UPLOAD, Access, is_loopback
from matcher.serve.server import ServerSettings
from tests.matcher.serve.conftest import ORIGIN

TOKEN = "a-token-of-many-letters"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client that sends no headers of its own."""
    with TestClient(build_app(ServerSettings(tmp_path_factory.mktemp("guard"))), base_url=ORIGIN) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A client of a server that asks for a token."""
    settings = ServerSettings(tmp_path_factory.mktemp("token"), access=Access(TOKEN))
    with TestClient(build_app(settings), base_url="http://matcher.example:8000", follow_redirects=False) as found:
        yield found


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_names_of_this_machine_are_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "localhost.evil"])
def test_other_names_are_not_so_rebinding_leads_nowhere(client, host):
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8000"},
        {"origin": "http://127.0.0.1:9000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": ORIGIN},
    ],
)
def test_changes_that_come_from_other_sites_are_refused(client, headers):
    for path in ("/projects", "/sample", "/projects/a/delete", "/match", "/language"):
        assert client.post(path, data={"name": "stolen"}, headers=headers).status_code == 403
    assert "stolen" not in client.get("/").text


@pytest.mark.parametrize("headers", [{"origin": ORIGIN, "sec-fetch-site": "same-origin"}, {"origin": ORIGIN}, {}])
def test_changes_of_our_own_pages_and_of_programs_are_done(client, headers):
    assert client.post("/projects", data={"name": ""}, headers=headers).status_code == 400  # it was looked at


def test_the_token_opens_the_door_and_nothing_else_does(guarded):
    assert guarded.get("/", headers={"accept": "text/html"}).headers["location"] == "/login"
    refused = guarded.post("/match", json={})
    assert refused.status_code == 401
    assert "Authorization: Bearer" in refused.json()["error_msg"]
    for wrong in ("Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        assert guarded.get("/", headers={"authorization": wrong}).status_code == 401
    assert guarded.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/static/style.css").status_code == 200
    assert guarded.get("/static/../openapi.json").status_code == 401
    assert guarded.get("/", headers={"cookie": f"ernie_vil_token={TOKEN}"}).status_code == 401


def test_a_browser_gives_the_token_once(guarded):
    assert guarded.post("/login", data={"token": "wrong"}).status_code == 403
    cookie = guarded.post("/login", data={"token": TOKEN}).headers["set-cookie"]
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert guarded.get("/").status_code == 200


def test_bodies_are_bounded_whatever_the_headers_say(client):
    def endless(limit):
        for _ in range(limit // (1 << 20) + 2):
            yield bytes(1 << 20)

    for path, kind, limit in (
        ("/match", "application/json", MAX_JSON),
        ("/projects", "application/x-www-form-urlencoded", MAX_FORM),
    ):
        assert client.post(path, content=endless(limit), headers={"content-type": kind}).status_code == 413
        told = {"content-type": kind, "content-length": str(limit + 1)}
        assert client.post(path, content=b"", headers=told).status_code == 413
    upload = {"content-type": "multipart/form-data; boundary=x", "content-length": str(MAX_UPLOAD + 1)}
    assert client.post("/projects/import", content=b"", headers=upload).status_code == 413
    assert client.post("/match", content=b"", headers=upload).status_code == 413


def test_every_answer_carries_its_security_headers(client):
    for path in ("/", "/static/style.css", "/nothing", "/openapi.json", "/docs"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"  # with no-referrer, browsers send our forms as from null


def test_files_outside_are_not_served(client):
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/projects/..%2f..%2fetc/data", "/projects/%2e%2e/data"):
        assert client.get(path).status_code in (400, 404)
    key = client.post("/projects", data={"name": "files"}).url.path.split("/")[2]
    for name in ("..%2fproject.json%00", "..%2f..%2fproject", ".%2e%2fcontents", "%2fetc%2fpasswd"):
        assert client.get(f"/projects/{key}/pictures/{name}.jpg").status_code == 404


def test_the_language_form_leads_to_no_other_site(client):
    for back in ("//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)"):
        answer = client.post("/language", data={"language": "zh", "back": back}, follow_redirects=False)
        assert answer.headers["location"] == "/"


def test_addresses_of_this_machine_are_known():
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", "")] == [False] * 5


def test_pages_hold_no_inline_script_or_style_and_name_no_other_host():
    from matcher.serve.app import STATIC

    for path in [*STATIC.parent.glob("templates/*.html"), *STATIC.iterdir()]:
        text = path.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text), path
        hosts = set(re.findall(r"https?://([\w.]+)", text))
        assert hosts <= {"www.w3.org"}, path  # the name of SVG's namespace
