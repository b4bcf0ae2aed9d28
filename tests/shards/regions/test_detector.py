import pytest

from parsers.command import InputError
from shards.regions.detector import DETECTOR, DetectorRecord
from shards.storage.files import write_record


def stage(folder, **record):
    folder.mkdir(exist_ok=True)
    write_record(record, folder / "stage.json")
    return folder


def test_extraction_says_which_detector_it_was(tmp_path):
    detector = {"name": "vg-bottom-up", "version": "1 abc", "preset": "flickr", "device": "cuda", "weights": "w.bin"}
    folder = stage(tmp_path / "regions", stage="extract", detector=detector, info={"feature_size": "2048"})
    found = DetectorRecord.of_regions(folder)
    assert found == DetectorRecord(
        name="vg-bottom-up", options={"preset": "flickr", "weights": "w.bin"}, feature_size=2048
    )


def test_of_regions_from_elsewhere_only_the_feature_size_is_known(tmp_path):
    folder = stage(tmp_path / "regions", stage="regions", info={"feature_size": "1280"})
    assert DetectorRecord.of_regions(folder) == DetectorRecord(feature_size=1280)


def test_a_folder_that_says_nothing_of_it_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not say how the regions were made"):
        DetectorRecord.of_regions(stage(tmp_path / "regions", stage="regions"))


def test_a_model_keeps_its_detector_and_a_run_finds_that_of_its_model(tmp_path):
    record = DetectorRecord(name="toyworld", options={"weights": "d.safetensors"}, feature_size=256)
    (tmp_path / "run/model").mkdir(parents=True)
    assert DetectorRecord.load(tmp_path / "run") is None
    record.save(tmp_path / "run/model")
    assert DetectorRecord.load(tmp_path / "run/model") == DetectorRecord.load(tmp_path / "run") == record
    path = tmp_path / "run/model" / DETECTOR
    path.write_bytes(path.read_bytes().replace(b"256", b"257"))
    with pytest.raises(InputError, match="differs from its checksum"):
        DetectorRecord.load(tmp_path / "run")
