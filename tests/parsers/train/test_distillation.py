"""Teachers read captions."""

from dataclasses import replace

import pytest
import torch

from parsers.neural.network import ParserNetwork
from parsers.neural.word_encoder import WordEncoder
from parsers.train import distillation
from parsers.train.distillation import read_captions
from parsers.train.labels import make_vocabulary
from parsers.train.targets import LEAST_PROBABILITY, expand


@pytest.fixture
def teachers(examples):
    vocabulary = make_vocabulary(examples, [])
    torch.manual_seed(0)
    return [ParserNetwork(WordEncoder(vocabulary.words, width=8), vocabulary).eval() for _ in range(2)]


def everything(_):
    return True


def test_teachers_are_averaged_and_every_caption_is_read(examples, teachers, tmp_path):
    readings = read_captions(examples, teachers, everything, tmp_path)
    assert len(readings) == len(examples)
    for example, reading in zip(examples, readings, strict=True):
        odds = [teacher.score([example.words]).roles for teacher in teachers]
        wanted = ((odds[0] + odds[1]) / 2).sigmoid()
        said = expand([reading], len(example.words), teachers[0].vocabulary).roles
        torch.testing.assert_close(said, wanted.where(wanted >= LEAST_PROBABILITY, 0.0), atol=1e-3, rtol=1e-3)


def test_what_makes_no_word_is_not_taught(examples, teachers, tmp_path):
    vocabulary = teachers[0].vocabulary
    assert vocabulary.edits == ("-0+", "-3+", "=2", "=have")
    (reading,) = read_captions(examples[:1], teachers[:1], {"wear"}.__contains__, tmp_path)
    said = expand([reading], len(examples[0].words), vocabulary).edits[0]
    for form, probabilities in zip(examples[0].words.forms, said, strict=True):
        assert (probabilities.amax(0) > 0).tolist() == [True, form == "wearing", True, True]


def test_what_was_read_is_not_read_again(examples, teachers, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "PART", 3)
    wanted = read_captions(examples, teachers, everything, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2  # of four different captions
    files[0].unlink()
    left = files[1].stat().st_mtime_ns
    assert [r.numbers.tolist() for r in read_captions(examples, teachers, everything, tmp_path)] == [
        r.numbers.tolist() for r in wanted
    ]
    assert sorted(tmp_path.iterdir()) == files
    assert files[1].stat().st_mtime_ns == left
    read_captions(examples, teachers[::-1], everything, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    read_captions([replace(examples[0])], teachers, everything, tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
