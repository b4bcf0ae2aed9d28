"""A project whose regions are found by the detector of the model that it starts from: new pictures are scored, too."""

import base64
import re

import pytest

from tests.matcher.conftest import SHORT
from tests.matcher.serve.conftest import ask, prepare, start, toys, wait_until_trained


@pytest.mark.slow
def test_the_detector_follows_from_the_model_and_new_pictures_are_scored(own, tmp_path):
    models = own.weights.parent / "models"
    own.train(models / "base", "--detector", "toyworld", "--weights", own.weights, *SHORT)
    picture = min(own.photos.iterdir()).read_bytes()
    with start(own, tmp_path / "data") as client:
        key = prepare(client, toys(own, regions=False))
        page = client.get(f"/projects/{key}/train").text
        assert re.search(r"<strong>base</strong>.*?The detector toyworld finds the regions", page, re.S)
        client.post(
            f"/projects/{key}/train", data={"start": re.search(r'name="start" value="([0-9a-f]{12})"', page)[1]}
        )
        wait_until_trained(client, key)
        sent = base64.b64encode(picture).decode()
        new = ask(client, "/match", text="a red cube", image=sent).json()
        known = ask(client, "/match", text="a red cube", image_id="1").json()
        assert new["log_odds"] == pytest.approx(known["log_odds"], abs=1e-3)  # stored features are float16
        assert ask(client, "/match", text="a", image="data:image/png;base64," + sent).status_code == 200
        for damaged in (b"no picture", picture[:200]):
            answer = ask(client, "/match", text="a", image=base64.b64encode(damaged).decode())
            assert (answer.status_code, answer.json()["error_code"]) == (400, 1003)
            assert "/tmp" not in answer.text
        page = client.post(
            f"/projects/{key}/check",
            data={"texts": "a red cube", "ask": "scores"},
            files={"photo": ("new.png", picture)},
        ).text
        assert 'href="data:image/jpeg;base64,' in page
