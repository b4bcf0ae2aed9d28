"""The whole way: pictures, training, report, check, answers to programs, a new version and back."""

from tests.matcher.serve.conftest import ask, start


def test_the_whole_way(own, trained):
    with start(own, trained) as client:
        page = client.get("/projects/toys/report").text
        assert "by chance" in page
        page = client.post(
            "/projects/toys/check", data={"image_id": "1", "texts": "a red cube\na ball", "ask": "scores"}, files={"x": b""}
        ).text
        assert "a red cube" in page
        answer = ask(client, "/match", text="a red cube", image_id="1")
        assert answer.status_code == 200, answer.text
        assert 0 <= answer.json()["score"] <= 1
