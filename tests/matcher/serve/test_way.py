"""The whole way: pictures, training, report, check, answers to programs, a new version and back."""

import base64
import re
import shutil

import pytest

from matcher.serve.pages.texts import LANGUAGES
from tests.matcher.serve.conftest import ask, create, progress, start

PAGES = ("data", "train", "report", "check", "use", "delete")


@pytest.fixture(scope="module")
def client(own, trained):
    """A client of a server whose project has a trained version."""
    with start(own, trained) as found:
        yield found


def rows_of(page, table):
    """The cells of a table of a page, row by row, without markup."""
    body = re.search(rf'<table id="{table}".*?</table>', page, re.S)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
    return [
        [re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.S)] for row in rows
    ]


def test_a_finished_training_shows_its_curves_and_its_log(client):
    told = progress(client, "toys")
    assert {name: points[-1]["step"] for name, points in told["curves"].items()} == {"start": 3, "training": 3}
    assert all(phase["state"] == "done" for phase in told["phases"])
    assert "training of pair matching:" in client.get("/projects/toys/versions/1/log.txt").text
    assert "/projects/toys/report?version=1" in client.get("/projects/toys/train").text


def test_the_report_has_recalls_beside_chance_and_what_hidden_words_do(client):
    page = client.get("/projects/toys/report").text
    recall = rows_of(page, "recall")
    assert recall[0][2:] == [["Version", "1"], ["by", "chance"]]
    assert recall[1][-1] == ["50.0%"]
    assert recall[2][-2:] == [["100.0%"], ["100.0%"]]
    assert len(recall) == 8
    hidden = rows_of(page, "hidden")
    assert [row[0] for row in hidden[1:]] == [["objects"], ["attributes"]]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_shown_in_every_language(client, language):
    for path in ("/", "/docs", "/login", "/none", *(f"/projects/toys/{name}" for name in PAGES)):
        answer = client.get(path, headers={"cookie": f"ernie_vil_language={language}"})
        assert answer.status_code == (404 if path == "/none" else 200), path
        assert f'<html lang="{language}">' in answer.text
        assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?![^>]*src=)", answer.text), path


def check(client, **fields):
    return client.post("/projects/toys/check", data=fields, files={"photo": ("", b"")}).text


def test_texts_are_scored_with_a_picture_and_the_regions_that_matter_are_drawn(client):
    page = check(client, image_id="1", texts="a red cube\na ball", ask="scores")
    scores = rows_of(page, "scores")
    assert len(scores) == 3
    assert "of the true pairs" in page
    assert '<image href="/projects/toys/pictures/1.jpg"' in page
    assert '<b class="attribute" title="cube is red">red</b>' in page


def test_a_text_finds_pictures_and_a_picture_finds_texts(client):
    page = check(client, query="a red cube", ask="pictures")
    assert len(re.findall(r'<img src="/projects/toys/pictures/\d+\.jpg"', page)) == 12
    page = check(client, image_id="1", ask="texts")
    assert re.search(r'<ol id="ranked"><li>\w', page)


def test_what_cannot_be_checked_is_said(client):
    assert "Choose a picture and write at least one text." in check(client, ask="scores", texts="a cube")
    assert "there are no regions of the picture nobody" in check(
        client, ask="scores", texts="a cube", image_id="nobody"
    )


def test_a_program_gets_scores(client):
    one = ask(client, "/projects/toys/match", text="a red cube", image_id="1")
    assert one.status_code == 200
    assert one.json().keys() == {"score", "log_odds", "log_id"}
    assert 0 < one.json()["score"] < 1
    short = ask(client, "/match", text="a red cube", image_id="1").json()
    assert short["score"] == pytest.approx(one.json()["score"], abs=1e-5)


def test_a_batch_answers_pair_by_pair(own, client):
    picture = base64.b64encode(min(own.photos.iterdir()).read_bytes()).decode()
    pairs = [
        {"text": "a red cube", "image_id": "1"},
        {"text": "a red cube", "image_id": "nobody"},
        {"text": "a red cube", "image": picture},
        {"text": "a red cube", "image": "no base64!"},
    ]
    results = ask(client, "/match/batch", pairs=pairs).json()["results"]
    assert [result.get("error_code") for result in results] == [None, 1004, 1005, 1000]
    assert "it is not known which detector found them (64 numbers describe a region)" in results[2]["error_msg"]


def test_a_program_is_told_what_is_wrong(client):
    for path, body, status, code in (
        ("/projects/none/match", {"text": "a", "image_id": "1"}, 404, 1001),
        ("/projects/toys/match", {"text": "a"}, 400, 1000),
        ("/projects/toys/match", {"text": "", "image_id": "1"}, 400, 1000),
        ("/projects/toys/match", {"text": "a", "image_id": "1", "image": "AAAA"}, 400, 1000),
        ("/projects/toys/match", {"text": "a" * 2001, "image_id": "1"}, 400, 1000),
        ("/match/batch", {"pairs": []}, 400, 1000),
    ):
        answer = ask(client, path, **body)
        assert (answer.status_code, answer.json()["error_code"]) == (status, code), (path, body)
        assert answer.json()["log_id"] > 0
    empty = create(client, "Empty")
    assert ask(client, f"/projects/{empty}/match", text="a", image_id="1").json()["error_code"] == 1002
    client.post(f"/projects/{empty}/delete", data={"confirm": "yes"})


def test_a_new_version_takes_over_and_the_old_one_can_come_back(client, trained):
    versions = trained / "projects/toys/versions"
    shutil.copytree(versions / "1", versions / "2")
    for number in (2, 1):
        client.post("/projects/toys/use", data={"version": number})
        page = client.get("/projects/toys/use").text
        assert re.search(rf"Version {number}\s*<span[^>]*>answers now", page)
        assert ask(client, "/match", text="a red cube", image_id="1").status_code == 200
    assert "Version 2" in client.get("/projects/toys/report").text
    shutil.rmtree(versions / "2")


def test_a_project_is_copied_exported_imported_and_deleted(client, trained):
    score = ask(client, "/projects/toys/match", text="a red cube", image_id="1").json()["score"]
    archive = client.get("/projects/toys/export")
    assert archive.headers["content-disposition"] == 'attachment; filename="toys.zip"'
    client.post("/projects/import", files={"archive": ("toys.zip", archive.content)})
    client.post("/projects/toys/copy")
    for key in ("toys-2", "toys-copy"):
        same = ask(client, f"/projects/{key}/match", text="a red cube", image_id="1").json()["score"]
        assert same == pytest.approx(score, abs=1e-5)
        assert "Tick the box" in client.post(f"/projects/{key}/delete").text
        assert client.get(f"/projects/{key}/data").status_code == 200
        client.post(f"/projects/{key}/delete", data={"confirm": "yes"})
        assert client.get(f"/projects/{key}/data").status_code == 404
    assert not [path.name for path in (trained / "projects").iterdir() if path.name != "toys"]
