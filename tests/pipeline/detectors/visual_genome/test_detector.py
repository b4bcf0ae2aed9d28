"""The detector ``vg-bottom-up`` as a whole."""

from dataclasses import replace

import numpy as np
import pytest

from parsers.command import InputError
from pipeline.detectors.visual_genome import PRESETS, VisualGenomeDetector
from tests.pipeline.detectors.visual_genome.tolerances import PROBABILITIES, changed, close


def pictures(*sizes):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]


def same(left, right):
    for name in ("boxes", "features", "class_probs", "attribute_probs"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


@pytest.mark.parametrize("rule", ["butd", "hf"])
def test_a_batch_gives_what_its_pictures_give_alone(small, rule):
    images = pictures((40, 50), (50, 40), (40, 50), (9, 7))
    ours = changed(small, rule=rule)
    together = ours.detect(images)
    assert all(len(regions.boxes) for regions in together)
    for image, regions in zip(images, together, strict=True):
        same(regions, ours.detect([image])[0])


@pytest.mark.parametrize("rule", ["butd", "hf"])
def test_regions_are_whole_and_inside_the_picture(small, rule):
    """Whatever there is too little of: pixels, proposals, confident ones."""
    images = pictures((1, 1), (1, 900), (700, 2), (33, 47))
    for image, regions in zip(images, changed(small, rule=rule, min_boxes=36).detect(images), strict=True):
        n = len(regions.boxes)
        assert 1 <= n <= 36
        height, width, _ = image.shape
        assert (regions.boxes[:, 2:] > regions.boxes[:, :2]).all()
        assert regions.boxes.min() >= 0
        assert (regions.boxes[:, 2:] <= np.array([width, height]) * 1.0001).all()
        assert regions.features.shape == (n, small.feature_size)
        assert regions.class_probs.shape == (n, len(small.class_names))
        assert regions.attribute_probs.shape == (n, len(small.attribute_names))
        for array in (regions.boxes, regions.features, regions.class_probs, regions.attribute_probs):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        np.testing.assert_allclose(regions.class_probs.sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(regions.attribute_probs.sum(1), 1, rtol=1e-5)


def test_given_boxes_are_described_as_proposals_are(small):
    images = pictures((40, 50), (50, 40))
    regions = changed(small, max_boxes=5).detect(images)
    again = small.detect(images, [r.boxes[::-1] for r in regions])
    for first, second in zip(regions, again, strict=True):
        np.testing.assert_array_equal(second.boxes, first.boxes[::-1])
        close(second.features, first.features[::-1], 1e-5)
        close(second.class_probs, first.class_probs[::-1], PROBABILITIES)
        close(second.attribute_probs, first.attribute_probs[::-1], PROBABILITIES)


def test_given_boxes_have_four_sides(small):
    with pytest.raises(ValueError, match=r"image 0: given boxes of shape \(4, 5\), expected \[n, 4\]"):
        small.detect(pictures((40, 50)), [np.zeros((4, 5), np.float32)])


def test_a_picture_may_have_no_given_boxes(small):
    (regions,) = small.detect(pictures((40, 50)), [np.zeros((0, 4), np.float32)])
    assert regions.boxes.shape == (0, 4)
    assert regions.features.shape == (0, 2048)
    assert regions.attribute_probs.shape == (0, 400)


def test_given_boxes_at_the_edges_are_described(small):
    """Of some the resized picture has nothing, or less than float32 can tell."""
    boxes = np.array([[0, 0, 9, 9], [49.99999, 5, 50.9, 30], [50, 5, 50.9, 30], [-0.9, -0.9, 0, 0]], np.float32)
    (regions,) = small.detect(pictures((40, 50)), [boxes])
    np.testing.assert_array_equal(regions.boxes, boxes)
    assert np.isfinite(regions.features).all()
    np.testing.assert_allclose(regions.class_probs.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture_is_named(small, image):
    with pytest.raises(ValueError, match="image 0 is"):
        small.detect([image])


def test_bfloat16_describes_nearly_the_same(small, weights):
    half = VisualGenomeDetector(weights, small.settings, precision="bf16")
    images, boxes = pictures((40, 50)), [np.array([[3, 4, 30, 35], [10, 0, 50, 40]], np.float32)]
    (exact,), (rounded,) = small.detect(images, boxes), half.detect(images, boxes)
    close(rounded.features, exact.features, 0.03)
    assert np.abs(rounded.features - exact.features).max() > 0
    assert rounded.features.dtype == np.float32
    assert half.version.endswith(" bf16")


def test_presets_can_be_changed_and_tell_versions_apart(weights, detector):
    other = VisualGenomeDetector(weights, "lxmert", max_boxes=50)
    assert other.settings == replace(PRESETS["lxmert"], max_boxes=50)
    assert other.version != detector.version


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "vilbert"}, "there is no preset 'vilbert'; there are ernie-vil"),
        ({"precision": "fp8"}, "there is no precision 'fp8'"),
        ({"min_boxes": 40}, "40 to 36 boxes"),
        ({"max_boxes": 301}, "10 to 301 boxes"),
        ({"min_boxes": 0, "max_boxes": 0}, "0 to 0 boxes"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VisualGenomeDetector("no weights are read", **options)


def test_settings_say_what_is_wrong_with_them():
    with pytest.raises(ValueError, match="there is no rule 'best'; there are butd and hf"):
        replace(PRESETS["flickr"], rule="best")
    with pytest.raises(ValueError, match="sides of 600 to 500 pixels"):
        replace(PRESETS["flickr"], max_size=500)


def test_classes_have_the_published_names(weights, detector, tmp_path):
    names = {"objects_vocab.txt": 1600, "attributes_vocab.txt": 400}
    for file, count in names.items():
        (tmp_path / file).write_text("\n".join(f"{file[:3]},{i}" for i in range(count)))
    named = VisualGenomeDetector(weights, class_names=str(tmp_path))
    assert named.class_names[1599:] == ("obj,1599", "background")
    assert named.class_names[named.background] == "background"
    assert named.attribute_names[399] == "att,399"
    assert detector.class_names[1599:] == ("object 1599", "background")
    (tmp_path / "objects_vocab.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="has 2 lines, expected one for each of 1600 names"):
        VisualGenomeDetector(weights, class_names=str(tmp_path))
