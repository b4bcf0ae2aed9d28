import pytest

from parsers.command import InputError
from pipeline.detectors.choice import ON_A_CPU, ON_A_GPU, choose_detector
from shards.manifest import DetectorInfo
from shards.regions.detector import DetectorRecord


def test_the_hardware_decides_where_there_is_no_model():
    assert choose_detector(cuda=True).name == ON_A_GPU
    chosen = choose_detector(cuda=False)
    assert chosen.name == ON_A_CPU
    assert "no GPU" in chosen.reason


@pytest.mark.parametrize("cuda", [False, True])
def test_a_model_decides_for_its_own_detector(cuda):
    record = DetectorRecord(detector=DetectorInfo(name="toyworld", options={"weights": "w"}), feature_size=256)
    chosen = choose_detector(record, cuda=cuda)
    assert (chosen.name, chosen.options) == ("toyworld", {"weights": "w"})
    assert choose_detector(DetectorRecord(feature_size=2048), cuda=cuda).name == ON_A_GPU
    with pytest.raises(InputError, match=r"features of size 1,280 .* --detector, or --regions"):
        choose_detector(DetectorRecord(feature_size=1280), cuda=cuda)
