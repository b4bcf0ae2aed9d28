"""What differs between two sets."""

from dataclasses import replace

import numpy as np
from typer.testing import CliRunner

import shards.inspect.__main__ as inspect
from parsers.graph import Object, SceneGraph, Span
from tests.shards.samples import IDS, SAMPLES, TEXT, make_sample, write_shards


def run(*arguments):
    result = CliRunner().invoke(inspect.app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_equal_sets_do_not_differ_however_they_are_cut(folder, tmp_path):
    other = write_shards(tmp_path / "other", [SAMPLES[5:], SAMPLES[:5]])
    result = run("diff", folder, other)
    assert result.exit_code == 0
    assert "no difference in 7 images" in result.output


def test_each_kind_of_change_is_told(folder, tmp_path):
    sample = SAMPLES[2]
    graph = SceneGraph(TEXT, (Object("cap", Span(6, 9)), *sample.captions[0].graph.objects[1:]))
    changes = {
        "image size": replace(sample, width=91),
        "captions": replace(sample, captions=(replace(sample.captions[0], caption_id="x"), *sample.captions[1:])),
        "graphs": replace(sample, captions=(replace(sample.captions[0], graph=graph), *sample.captions[1:])),
        "word pieces": replace(sample, masks=replace(sample.masks, token_ids=sample.masks.token_ids + 0 * 1)),
        "boxes": replace(sample, regions=replace(sample.regions, boxes=sample.regions.boxes + np.float32(0.5))),
        "features": replace(sample, regions=replace(sample.regions, features=sample.regions.features * np.float16(2))),
        "classes": replace(sample, regions=replace(sample.regions, class_ids=sample.regions.class_ids[:, ::-1])),
    }
    changes["word pieces"].masks.token_ids[0] += 1
    for number, (kind, changed) in enumerate(changes.items()):
        other = write_shards(tmp_path / str(number), [[*SAMPLES[:2], changed, *SAMPLES[3:]]])
        result = run("diff", folder, other)
        assert result.exit_code == 1
        rows = [line for line in result.output.splitlines() if IDS[2] in line]
        assert len(rows) == 1, result.output
        assert kind in rows[0]
        assert " 1 " in rows[0]


def test_images_of_one_set_alone_are_told_apart(folder, tmp_path):
    other = write_shards(tmp_path / "other", [SAMPLES[1:], [make_sample("only here", 5)]])
    output = run("diff", folder, other).output
    assert any("only in A" in line and "285" in line for line in output.splitlines())
    assert any("only in B" in line and "only here" in line for line in output.splitlines())
