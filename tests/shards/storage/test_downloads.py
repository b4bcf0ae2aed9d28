import socket

import pytest

from parsers.command import InputError
from shards.storage.downloads import check_reachable, fetch_from_hub, find_weights


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


@pytest.fixture
def hub(tmp_path, monkeypatch, closed_port):
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{closed_port}")
    return tmp_path / "hub"


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(hub):
    advice = r"fetch http://\S+/someone/bert/resolve/main/pytorch_model.bin elsewhere and give --start-text the folder"
    with pytest.raises(
        InputError, match=rf"cannot be reached .*--start-text someone/bert: no file or folder.*{advice}"
    ):
        find_weights("someone/bert", "--start-text")


def test_a_name_that_no_model_can_have_is_no_matter_for_the_network(hub):
    with pytest.raises(InputError, match=r"--start-text ../no/where: no file or folder here, and no model of the hub"):
        find_weights("../no/where", "--start-text")


def test_weights_are_found_in_a_folder_and_in_the_cache_without_a_network(hub, tmp_path):
    (tmp_path / "bert").mkdir()
    with pytest.raises(InputError, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        find_weights(str(tmp_path / "bert"), "--start-text")
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / "bert" / name).touch()
        assert find_weights(str(tmp_path / "bert"), "--start-text").name == name
    kept = hub / "models--someone--bert/snapshots/1/pytorch_model.bin"
    kept.parent.mkdir(parents=True)
    kept.touch()
    (hub / "models--someone--bert/refs").mkdir()
    (hub / "models--someone--bert/refs/main").write_text("1")
    assert find_weights("someone/bert", "--start-text") == kept
    assert fetch_from_hub("someone/bert", ["vocab.txt", "pytorch_model.bin"], "--tokenizer") == kept
