import socket

import pytest

from parsers.command import InputError
from shards.storage.downloads import check_reachable


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def closed_port():
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_that_answers_is_reachable(server):
    check_reachable(f"http://127.0.0.1:{server}/weights.pth", "do without")


def test_one_line_says_what_to_do_where_nobody_answers(closed_port):
    with pytest.raises(InputError, match=r"^127\.0\.0\.1 cannot be reached \(.*\); fetch it elsewhere$"):
        check_reachable(f"http://127.0.0.1:{closed_port}/weights.pth", "fetch it elsewhere")


def test_behind_a_proxy_the_proxy_must_answer(server, closed_port, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server}")
    check_reachable("http://models.invalid/weights.pth", "do without")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(InputError, match=r"models\.invalid cannot be reached"):
        check_reachable("http://models.invalid/weights.pth", "do without")
