"""False captions of the toy world, whose scenes say what is true."""

from collections import Counter

import numpy as np

import parsers
from pipeline.negatives.lexicon import read_lexicon
from pipeline.negatives.makers import make_false_captions
from pipeline.negatives.picture import Picture
from pipeline.toyworld import describe, sample_scene
from shards.schema import NEGATIVE_KINDS
from tests.pipeline.toyworld.test_suite import may_be_read_as_true

KINDS = [kind for kind in NEGATIVE_KINDS if kind not in ("replace_number", "add_attribute")]
"""The kinds whose words the toy world mostly has."""


def test_hardly_a_false_caption_can_be_read_as_true_of_its_scene():
    parser, lexicon = parsers.get(parsers.DEFAULT), read_lexicon()
    scenes = [sample_scene(number, np.random.default_rng((31, number))) for number in range(150)]
    captions = [
        [caption.text for caption in describe(scene, 3, np.random.default_rng((32, number)))]
        for number, scene in enumerate(scenes)
    ]
    words = {word for texts in captions for text in texts for word in text.lower().rstrip(".").split()}
    made: Counter[str] = Counter()
    true = []
    for scene, texts in zip(scenes, captions, strict=True):
        picture = Picture(parser.parse(texts))
        for number in range(len(texts)):
            for false in make_false_captions(picture, number, KINDS, 1, {}, texts[0], lexicon):
                text = false.graph.caption
                if words.issuperset(text.lower().rstrip(".").split()):  # the reader knows no others
                    made[false.kind] += 1
                    if may_be_read_as_true(text, scene.to_dict()):
                        true.append((texts, text))
    assert set(made) == set(KINDS)
    assert made.total() > 500
    assert len(true) <= 0.005 * made.total(), true
