"""The command from photos and captions to a matcher, and what is done with the matcher."""

import signal

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from matcher import Matcher
from matcher.score import app as score_app
from matcher.search import app as search_app
from parsers.command import InputError
from shards.regions.detector import DetectorRecord
from tests.matcher.conftest import SHORT

MODEL = "model/model.safetensors"


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def given(own, tmp_path_factory):
    """A matcher of given regions, and what its training printed."""
    out = tmp_path_factory.mktemp("given") / "m"
    return out, own.train(out, "--regions", own.regions, *SHORT)


@pytest.fixture(scope="module")
def detected(own, tmp_path_factory):
    """A matcher that found its regions with a detector."""
    out = tmp_path_factory.mktemp("detected") / "m"
    said = own.train(out, "--detector", "toyworld", "--weights", own.weights.parent / "missing", *SHORT, code=1)
    assert said.splitlines()[-1].startswith("error: detector toyworld: ")
    own.train(out, "--detector", "toyworld", "--weights", own.weights, *SHORT)  # nothing was made that would be lost
    return out


def test_one_command_makes_a_model_a_report_and_a_record(own, given):
    out, said = given
    files = files_of(out)
    assert {MODEL, "report/index.html", "report/left-out.txt", "run.yaml"} <= files
    assert not [name for name in files if "checkpoints" in name]
    for line in ("10 to learn from, 2 to test on", "20 to learn from, 4 to test on", "CPU, 1 thread", "steps       3"):
        assert line in said
    assert "left out: sea: captions without a photo" in said
    page = (out / "report/index.html").read_text()
    assert "by chance" in page
    assert "sea: captions without a photo" in page
    results = yaml.safe_load((out / "run.yaml").read_text())["results"]
    assert results["held_out"] == {"photos": 2, "captions": 4}
    assert results["chance"]["image/R@1"] == 0.5
    assert results["recall"]["image/R@10"] == results["chance"]["text/R@10"] == 1
    assert DetectorRecord.load(out) == DetectorRecord(feature_size=64)


def test_the_worst_pairs_are_drawn_with_their_pictures(given):
    page = (given[0] / "report/index.html").read_text()
    wrong = page.count('<article class="pair">')
    assert page.count("its own photo: rank 2 of 2") == page.count("fits better by") == wrong
    assert page.count("data:image/jpeg;base64,") == 2 * wrong


def test_a_finished_matcher_is_not_made_again_and_another_one_not_lost(own, given):
    out, _ = given
    before = (out / MODEL).read_bytes()
    assert "finished already" in own.train(out, "--regions", own.regions, *SHORT)
    other = ("--regions", own.regions, "--set", "steps=2", *SHORT[2:])
    refused = own.train(out, *other, code=1)
    assert 'settings: ["steps=3"' in refused
    assert "--overwrite to make it anew" in refused
    assert (out / MODEL).read_bytes() == before


def test_folders_of_others_are_left_alone(own, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    assert "is not empty and holds no matcher" in own.train(tmp_path, "--overwrite", code=1)
    assert files_of(tmp_path) == {"diary.txt"}
    assert "inputs must not change" in own.train(own.photos / "out", code=1)


def test_given_regions_are_scored_by_image_id_or_file(own, given):
    texts = ["a red cube", "a ball behind a cone"]
    known = Matcher(given[0])
    assert known.score("1", texts).shape == (2,)
    assert np.array_equal(known.score("1", texts), Matcher(given[0], regions=own.regions).score("1.png", texts))
    with pytest.raises(InputError, match="nobody: there are no regions of it"):
        known.score("nobody", texts)


def test_photos_get_the_detector_that_the_model_records(own, detected, tmp_path):
    record = DetectorRecord.load(detected)
    assert (record.detector.name, record.feature_size) == ("toyworld", 256)
    assert record.detector.options == {"weights": str(own.weights)}
    photo, texts = min(own.photos.iterdir()), ["a red cube", "a ball behind a cone"]
    scores = Matcher(detected).score(photo, texts)
    stored = Matcher(detected, regions=detected / "work/regions").score(photo.name, texts)
    assert np.allclose(scores, stored, atol=1e-3)  # stored features are float16
    done = CliRunner().invoke(score_app, [str(detected), str(photo), *texts])
    assert done.exit_code == 0, done.output
    assert all(text in done.output for text in texts)
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(InputError, match=r"text\.jpg: no picture"):
        Matcher(detected).score(tmp_path / "text.jpg", texts)


def test_a_search_ranks_all_photos_and_keeps_what_the_detector_found(own, detected):
    first = Matcher(detected).search("a red cube", own.photos)
    assert {path.name for path, _ in first} == {path.name for path in own.photos.iterdir()}
    assert [score for _, score in first] == sorted((score for _, score in first), reverse=True)
    parts = {path: path.stat().st_mtime_ns for path in detected.glob("search/*/part-*.parquet")}
    assert parts
    done = CliRunner().invoke(search_app, [str(detected), "a red cube", str(own.photos), "-n", "3"])
    assert done.exit_code == 0, done.output
    assert [line.split()[-1] for line in done.output.splitlines()[-3:]] == [str(path) for path, _ in first[:3]]
    assert {path: path.stat().st_mtime_ns for path in detected.glob("search/*/part-*.parquet")} == parts


def test_a_matcher_starts_from_another_one_with_its_detector_and_vocabulary(own, detected, tmp_path):
    said = own.train(tmp_path / "m", "--start", detected, *SHORT)
    assert "detector: toyworld, because the model was trained on its regions" in said
    assert "pretraining" not in said
    assert (tmp_path / "m/model/vocab.txt").read_bytes() == (detected / "model/vocab.txt").read_bytes()
    assert DetectorRecord.load(tmp_path / "m") == DetectorRecord.load(detected)


def test_a_detector_of_another_feature_size_is_refused_before_it_looks_at_photos(own, given, tmp_path):
    detector = ("--detector", "toyworld", "--weights", own.weights)
    said = own.train(tmp_path / "m", "--start", given[0], *detector, code=1)
    assert "gives features of size 256, and the model takes 64" in said
    said = own.train(tmp_path / "n", "--start", given[0], code=1)
    assert "takes features of size 64 and does not record by which detector" in said


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_model(own, tmp_path):
    """The run is killed in each stage, one after the other, and started again."""
    arguments = ("--detector", "toyworld", "--weights", own.weights, *SHORT)
    own.train(tmp_path / "whole", *arguments)
    for kill_at in (
        "pipeline.execution.parts:Part.complete 2",  # while regions are found
        "pipeline.parse.stage:ParseStage.worker 1",
        "matcher.vocabulary:write_atomic 1",
        "pipeline.pack.stage:PackStage.finish 1",
        "pretrain.training.trainer:Trainer.train_step 3",  # pretraining
        "pretrain.model.folder:write_weights 1",  # its export
        "finetune.training.finetuning:FineTuning.score 5",  # matching: two calls measure, then steps
        "finetune.model_folder:write_json 1",  # its export
        "matcher.chain:report_matcher 1",  # the model is in place
        "matcher.report:write_atomic 1",
    ):
        own.train(tmp_path / "m", *arguments, kill_at=kill_at, code=-signal.SIGKILL)
    own.train(tmp_path / "m", *arguments)
    assert (tmp_path / "m" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    results = [yaml.safe_load((tmp_path / name / "run.yaml").read_text())["results"] for name in ("m", "whole")]
    assert results[0] == results[1]
