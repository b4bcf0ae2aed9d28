"""50 clients ask a base model for a minute: no error, no growing memory, and more are told to wait."""

import asyncio
import itertools
import shutil
import time

import httpx
import numpy as np
import psutil
import pytest

from finetune.heads import FineTunedModel
from finetune.model_folder import save_fine_tuned
from finetune.tasks.retrieval.task import Retrieval, RetrievalSettings
from matcher.serve.match_queue import MOST_OPEN
from pretrain.model.config import ModelConfig
from tests.conftest import ROOT
from tests.matcher.serve.conftest import prepare, quick_training, server_process, toys, wait_until_trained

CLIENTS, SECONDS = 50, 60
REGIONS, FEATURES = 36, 2048
"""Of a picture, as the detector of bottom-up attention finds them."""
MOST_GROWTH = 64 << 20
"""bytes that allocators may take on the way"""
TEXTS = [" ".join(["a", size, colour, thing, "on the table"]) for size, colour, thing in itertools.product(
    ("large", "small", "tiny"), ("red", "blue", "green"), ("cube", "ball", "ring"))]  # fmt: skip


def regions_of(number):
    """A file of regions: 36 of a picture."""
    random = np.random.default_rng(number)
    low = random.uniform(0, 80, (REGIONS, 2))
    return {
        "image_id": str(number),
        "bbox": np.concatenate([low, low + 40], axis=1).astype(np.float32),
        "features": random.standard_normal((REGIONS, FEATURES)).astype(np.float32),
        "num_boxes": REGIONS,
        "image_width": 128,
        "image_height": 128,
    }


def enlarge(matcher):
    """Puts random weights of a base model's size in place of those of a matcher."""
    config = ModelConfig.load(ROOT / "configs/model/base.json")
    words = (matcher / "model/vocab.txt").read_text().splitlines()
    words += [f"[unused{number}]" for number in range(config.vocab_size - len(words))]
    task = Retrieval(RetrievalSettings())
    weights = FineTunedModel(config, task.make_head(config)).state_dict()
    shutil.rmtree(matcher / "model")
    save_fine_tuned(weights, config, ("\n".join(words) + "\n").encode(), task, matcher / "model")


def memory(process):
    """The bytes that a process and those that it started hold."""
    parent = psutil.Process(process.pid)
    return sum(found.memory_info().rss for found in (parent, *parent.children(recursive=True)))


async def ask(client, number):
    """The status, the seconds that it took, and the answer."""
    started = time.monotonic()
    body = {"text": TEXTS[number % len(TEXTS)], "image_id": str(1 + number % 12)}
    answer = await client.post("/match", json=body)
    return answer.status_code, time.monotonic() - started, answer


async def ask_until(end, connect):
    """All clients, each with a connection of its own, ask one question after the other; returns what each got."""
    numbers = itertools.count()

    async def ask_on():
        found = []
        async with connect() as client:
            while time.monotonic() < end:
                found.append((await ask(client, next(numbers)))[:2])
        return found

    return [pair for found in await asyncio.gather(*(ask_on() for _ in range(CLIENTS))) for pair in found]


async def ask_all_at_once(count, connect):
    """What many clients get that ask at the same time."""

    async def ask_once(number):
        async with connect() as client:
            return await ask(client, number)

    return await asyncio.gather(*(ask_once(number) for number in range(count)))


@pytest.mark.slow
def test_fifty_clients_are_answered_and_more_are_told_to_wait(own, tmp_path):
    data, files = tmp_path / "data", toys(own, regions=False)
    for number in range(1, 13):
        np.savez(tmp_path / "regions.npz", **regions_of(number))
        files[f"{number}.npz"] = (tmp_path / "regions.npz").read_bytes()
    with server_process(data, quick_training(own)) as (process, client):
        key = prepare(client, files)
        client.post(f"/projects/{key}/train", data={"start": "nothing"})
        wait_until_trained(client, key)
        enlarge(data / f"projects/{key}/versions/1/matcher")

        def connect():
            return httpx.AsyncClient(base_url=client.base_url, timeout=120)

        asyncio.run(ask_until(time.monotonic() + 10, connect))  # the model is loaded, and all has been used once
        before = memory(process)
        answers = asyncio.run(ask_until(time.monotonic() + SECONDS, connect))
        after = memory(process)
        crowd = asyncio.run(ask_all_at_once(2 * MOST_OPEN, connect))
    assert {status for status, _ in answers} == {200}
    assert after - before < MOST_GROWTH
    assert {status for status, _, _ in crowd} == {200, 503}
    refused = [answer for status, _, answer in crowd if status == 503]
    assert len(refused) <= MOST_OPEN
    assert all(int(answer.headers["retry-after"]) >= 1 and answer.json()["error_code"] == 1006 for answer in refused)
    seconds = np.array([taken for _, taken in answers])
    print(
        f"{len(answers) / SECONDS:.1f} answers a second; half within {np.median(seconds):.1f} s, 99 of 100 within "
        f"{np.percentile(seconds, 99):.1f} s; {before / 1e9:.2f} GB before, {after / 1e9:.2f} GB after"
    )
