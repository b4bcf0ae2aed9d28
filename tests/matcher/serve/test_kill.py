"""SIGKILL of the server and of the training, at any moment, loses nothing."""

import re

import pytest

from tests.matcher.serve.conftest import (
    find_training,
    prepare,
    progress,
    quick_training,
    server_process,
    toys,
    wait_for,
    wait_until_trained,
)

WEIGHTS = "projects/toys/versions/1/matcher/model/model.safetensors"


@pytest.mark.slow
def test_a_killed_server_finds_its_training_and_a_killed_training_goes_on(own, trained, tmp_path):
    data = tmp_path / "data"
    with server_process(data, quick_training(own)) as (process, client):
        key = prepare(client, toys(own))
        client.post(f"/projects/{key}/train", data={"start": "nothing"})
        before = wait_for(lambda: find_training(data), "the training to begin")
        process.kill()
        process.wait()
    assert before.is_running()
    with server_process(data, quick_training(own)) as (process, client):
        wait_for(lambda: progress(client, key)["state"] == "running", "the training to be found again")
        assert find_training(data).pid == before.pid
        wait_for(lambda: progress(client, key)["curves"], "the first steps")
        before.kill()
        wait_for(lambda: progress(client, key)["state"] == "failed", "the page to say so")
        page = client.get(f"/projects/{key}/train").text
        assert re.search(r'<p class="error">[^<]*\w', page)
        assert f"/projects/{key}/versions/1/log.txt" in page
        client.post(f"/projects/{key}/versions/1/resume")
        wait_for(lambda: find_training(data), "the training to go on")
        process.kill()
        process.wait()
        find_training(data).kill()
    with server_process(data, quick_training(own)) as (_, client):  # both are gone: it goes on by itself
        wait_until_trained(client, key)
    assert (data / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()
