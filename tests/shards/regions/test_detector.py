import pytest

from parsers.command import InputError
from shards.manifest import Classes, DetectorInfo
from shards.regions.detector import DETECTOR, DetectorRecord
from shards.regions.table import RegionsInfo, write_regions
from shards.storage.files import write_record


@pytest.fixture
def regions(tmp_path):
    """A finished folder of regions, without the record of its stage."""
    folder = tmp_path / "regions"
    info = RegionsInfo(4, Classes(kind="none", count=None, background=None, names=None), None)
    folder.mkdir()
    with (folder / "part-00000.parquet").open("wb") as stream:
        write_regions(stream, [], info)
    write_record({}, folder / "report.json")
    return folder


def test_extraction_says_which_detector_it_was(regions):
    detector = {"name": "vg-bottom-up", "version": "1 abc", "preset": "flickr", "device": "cuda", "weights": "w.bin"}
    write_record({"stage": "extract", "detector": detector}, regions / "stage.json")
    info = DetectorInfo(name="vg-bottom-up", options={"preset": "flickr", "weights": "w.bin"})
    assert DetectorRecord.of_regions(regions) == DetectorRecord(detector=info, feature_size=4)


def test_of_regions_from_elsewhere_only_the_feature_size_is_known(regions):
    assert DetectorRecord.of_regions(regions) == DetectorRecord(feature_size=4)
    write_record({"stage": "regions"}, regions / "stage.json")
    assert DetectorRecord.of_regions(regions) == DetectorRecord(feature_size=4)


def test_a_record_that_names_no_detector_is_refused(regions):
    write_record({"stage": "extract", "detector": {"weights": "w.bin"}}, regions / "stage.json")
    with pytest.raises(InputError, match="does not say which detector it was"):
        DetectorRecord.of_regions(regions)


def test_a_model_keeps_its_detector_and_a_run_finds_that_of_its_model(tmp_path):
    record = DetectorRecord(
        detector=DetectorInfo(name="toyworld", options={"weights": "d.safetensors"}), feature_size=256
    )
    (tmp_path / "run/model").mkdir(parents=True)
    assert DetectorRecord.load(tmp_path / "run") is None
    record.save(tmp_path / "run/model")
    assert DetectorRecord.load(tmp_path / "run/model") == DetectorRecord.load(tmp_path / "run") == record
    path = tmp_path / "run/model" / DETECTOR
    path.write_bytes(path.read_bytes().replace(b"256", b"257"))
    with pytest.raises(InputError, match="differs from its checksum"):
        DetectorRecord.load(tmp_path / "run")
