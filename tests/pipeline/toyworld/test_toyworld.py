"""The generated world: the same bytes again, files as published readers want them, and nothing said that is not so."""

from __future__ import annotations

import json
import multiprocessing
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers.implementations import BertWordPieceTokenizer
from typer.testing import CliRunner

from parsers.command import InputError
from pipeline.toyworld import (
    Related,
    Scene,
    SimulatedDetector,
    ToyWorld,
    describe,
    read_scenes,
    render,
    sample_scene,
    write_world,
)
from pipeline.toyworld.__main__ import app
from pipeline.toyworld.captions import MAX_WORDS, NUMBERS, WORDINGS, Mention, Predicated
from pipeline.toyworld.scene import HEIGHT, SHAPES, VALUES, WIDTH, ToyRelation
from tests.pipeline.outputs import contents

WORLD = ToyWorld(images=60, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("world") / "toys"
    write_world(WORLD, out)
    return out


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(i, np.random.default_rng((11, i))) for i in range(1, 301)]


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    write_world(WORLD, tmp_path / "again", workers=2)
    assert contents(tmp_path / "again") == contents(folder)


def test_a_worker_that_is_killed_is_an_error_of_one_line(tmp_path):
    def kill(_):
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(InputError, match="a worker process died"):
        write_world(ToyWorld(images=1000), tmp_path / "world", progress=kill)
    assert not (tmp_path / "world").exists()


def test_another_seed_gives_another_world(folder, tmp_path):
    write_world(ToyWorld(images=5, seed=4), tmp_path / "other")
    assert (tmp_path / "other/regions/1.npz").read_bytes() != (folder / "regions/1.npz").read_bytes()


def test_a_picture_does_not_depend_on_how_many_follow(folder, tmp_path):
    write_world(ToyWorld(images=4, seed=WORLD.seed), tmp_path / "short")
    short, long = contents(tmp_path / "short"), contents(folder)
    per_image = [name for name in short if "/" in name]
    assert len(per_image) == 8
    assert {name: short[name] for name in per_image} == {name: long[name] for name in per_image}
    assert long["scenes.jsonl"].startswith(short["scenes.jsonl"])


def test_captions_are_coco_json(folder):
    coco = json.loads((folder / "captions.json").read_text())
    assert list(coco) == ["info", "licenses", "images", "annotations"]
    assert len(coco["images"]) == 60
    assert len(coco["annotations"]) == 300
    assert coco["images"][6] == {"id": 7, "file_name": "000000000007.png", "height": HEIGHT, "width": WIDTH}
    assert [a["id"] for a in coco["annotations"]] == list(range(1, 301))
    texts = [a["caption"] for a in coco["annotations"] if a["image_id"] == 7]
    assert len(set(texts)) == 5
    with Image.open(folder / "images" / "000000000007.png") as picture:
        assert (picture.size, picture.mode) == ((WIDTH, HEIGHT), "RGB")


def test_regions_have_the_keys_and_types_of_vilbert_files(folder):
    for image_id in range(1, 61):
        with np.load(folder / f"regions/{image_id}.npz", allow_pickle=False) as file:
            regions = dict(file)
        n = int(regions["num_boxes"])
        assert 1 <= n <= 20
        assert {key: (value.dtype.str, value.shape) for key, value in regions.items()} == {
            "features": ("<f4", (n, 64)),
            "bbox": ("<f4", (n, 4)),
            "num_boxes": ("<i8", ()),
            "objects": ("<i8", (n,)),
            "cls_prob": ("<f4", (n, len(SHAPES) + 1)),
            "image_width": ("<i8", ()),
            "image_height": ("<i8", ()),
            "image_id": (f"<U{len(str(image_id))}", ()),
        }
        assert str(regions["image_id"]) == str(image_id)
        x1, y1, x2, y2 = regions["bbox"].T
        assert min(x1.min(), y1.min()) >= 0
        assert x2.max() <= WIDTH
        assert y2.max() <= HEIGHT
        assert min((x2 - x1).min(), (y2 - y1).min()) > 4
        np.testing.assert_allclose(regions["cls_prob"].sum(axis=1), 1, atol=1e-5)
        assert (regions["objects"] == regions["cls_prob"][:, 1:].argmax(axis=1)).all()
        assert (np.diff(regions["cls_prob"][:, 1:].max(axis=1)) <= 0).all()
    assert (folder / "class_names.txt").read_text().split() == list(SHAPES)


def test_the_vocabulary_spells_every_caption(folder):
    pieces = (folder / "vocab.txt").read_text().splitlines()
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(pieces)) == len(pieces) <= 400
    tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    captions = [a["caption"] for a in json.loads((folder / "captions.json").read_text())["annotations"]]
    tokens = [encoding.tokens for encoding in tokenizer.encode_batch([*captions, "What colours? Don't know, 7!"])]
    assert not any("[UNK]" in said for said in tokens[:-1])
    assert tokens[-1].count("[UNK]") == 1  # the exclamation mark
    assert max(map(len, tokens[:-1])) <= 24  # with [CLS] and [SEP]
    assert len({"cube", "cylinder", "purple", "wooden", "behind"} - set(pieces)) == 0


def test_scenes_read_back(folder):
    scenes = list(read_scenes(folder / "scenes.jsonl"))
    assert [scene.image_id for scene in scenes] == list(range(1, 61))
    line = json.loads((folder / "scenes.jsonl").read_text().splitlines()[0])
    assert scenes[0].to_dict() == line
    assert (line["width"], line["height"]) == (WIDTH, HEIGHT)


def test_scenes_stay_inside_the_picture_and_hold_every_relation(scenes):
    assert {len(scene.things) for scene in scenes} == {3, 4, 5, 6}
    for scene in scenes:
        for thing in scene.things:
            assert 0 <= thing.box.x1 < thing.box.x2 <= WIDTH
            assert 0 <= thing.box.y1 < thing.box.y2 <= HEIGHT
    assert {related.relation for scene in scenes for related in scene.relations} == set(ToyRelation)


def test_relations_come_in_pairs(scenes):
    opposite = {
        ToyRelation.LEFT_OF: ToyRelation.RIGHT_OF,
        ToyRelation.ABOVE: ToyRelation.BELOW,
        ToyRelation.IN_FRONT_OF: ToyRelation.BEHIND,
        ToyRelation.COVERING: ToyRelation.COVERED_BY,
        ToyRelation.RESTING_ON: ToyRelation.CARRYING,
        ToyRelation.NEXT_TO: ToyRelation.NEXT_TO,
        ToyRelation.TOUCHING: ToyRelation.TOUCHING,
    }
    opposite |= {there: here for here, there in opposite.items()}
    for scene in scenes:
        holds = set(scene.relations)
        for r in holds:
            if r.relation is ToyRelation.LEANING_AGAINST:
                assert Related(r.object, r.relation, r.subject) not in holds
            else:
                assert Related(r.object, opposite[r.relation], r.subject) in holds


def seen(relation: ToyRelation, a: np.ndarray, b: np.ndarray, a_later: bool) -> bool:
    """The same relation, judged anew from two boxes x1, y1, x2, y2 and from who was drawn later."""
    shared_x = min(a[2], b[2]) - max(a[0], b[0])
    shared_y = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(shared_x, 0) * max(shared_y, 0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    match relation:
        case ToyRelation.LEFT_OF:
            return a[2] <= b[0] and shared_y > 0
        case ToyRelation.RIGHT_OF:
            return b[2] <= a[0] and shared_y > 0
        case ToyRelation.NEXT_TO:
            return shared_y > 0 and 0 < -shared_x < 36
        case ToyRelation.ABOVE:
            return a[3] < b[1] and shared_x > 0
        case ToyRelation.BELOW:
            return b[3] < a[1] and shared_x > 0
        case ToyRelation.IN_FRONT_OF:
            return a_later and a[3] > b[3] and overlap > 0.09 * area_b
        case ToyRelation.BEHIND:
            return not a_later and a[3] < b[3] and overlap > 0.09 * area_a
        case ToyRelation.COVERING:
            return a_later and overlap > area_b / 2
        case ToyRelation.COVERED_BY:
            return not a_later and overlap > area_a / 2
        case ToyRelation.RESTING_ON:
            return abs(a[3] - b[1]) <= 3 and shared_x > 0
        case ToyRelation.CARRYING:
            return abs(b[3] - a[1]) <= 3 and shared_x > 0
        case ToyRelation.TOUCHING:
            return shared_x == 0 and a[3] == b[3]
        case ToyRelation.LEANING_AGAINST:
            return 0 < shared_x < 20 and b[3] < a[3] < b[3] + 6 and a_later


@pytest.mark.parametrize("block", range(3))
def test_every_caption_is_true_and_picks_out_its_things(scenes, block):
    for scene in scenes[block * 100 : block * 100 + 100]:
        things = scene.to_dict()["things"]
        for caption in describe(scene, 6, np.random.default_rng((12, scene.image_id))):
            assert len(caption.text.split()) <= MAX_WORDS
            for claim in caption.claims:
                match claim:
                    case Mention(mentioned, words):
                        fitting = [i for i, t in enumerate(things) if all(t[a] == value for a, value in words)]
                        assert fitting == list(mentioned), caption
                        phrase = " ".join(value for _, value in words)
                        phrase = phrase if len(mentioned) == 1 else f"{NUMBERS[len(mentioned)]} {phrase}s"
                        assert phrase in caption.text.lower()
                    case Predicated(mentioned, attribute, value):
                        assert all(things[i][attribute] == value for i in mentioned), caption
                        assert value in VALUES[attribute]
                        assert f" {value}" in caption.text
                    case Related(subject, relation, object):
                        boxes = (np.array(things[i]["box"]) for i in (subject, object))
                        assert seen(relation, *boxes, a_later=subject > object), caption
                        forms = [form for w in WORDINGS[relation] for form in (w.singular, w.plural, w.bare)]
                        assert any(form in caption.text for form in forms), caption


def test_captions_use_every_wording():
    said = " ".join(
        caption.text
        for i in range(400)
        for caption in describe(sample_scene(i, np.random.default_rng((13, i))), 5, np.random.default_rng((14, i)))
    )
    for wordings in WORDINGS.values():
        for wording in wordings:
            assert f" {wording.singular} " in said
    for value in (value for values in VALUES.values() for value in values):
        assert f" {value} " in said
    for words in ("There is", "There are two", " that is ", " which ", " are "):
        assert words in said


def test_attributes_are_independent_of_each_other():
    things = [t for i in range(1500) for t in sample_scene(i, np.random.default_rng((15, i))).things]
    for first, second in (("shape", "colour"), ("colour", "material"), ("shape", "size"), ("colour", "size")):
        counts = np.zeros((len(VALUES[first]), len(VALUES[second])))
        for thing in things:
            counts[VALUES[first].index(thing.value(first)), VALUES[second].index(thing.value(second))] += 1
        expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
        assert ((counts - expected) ** 2 / expected).sum() < 3 * counts.size


def guess_relations(apart):
    """How often a relation is guessed from the rest of its caption, and from its number of words alone."""
    forms = {form for wordings in WORDINGS.values() for w in wordings for form in (w.singular, w.plural, w.bare)}
    forms = {form.removeprefix("is ").removeprefix("are ") for form in forms}
    said = re.compile("|".join(rf"\b{form}\b" for form in sorted(forms, key=len, reverse=True)))
    names = re.compile("|".join(value for a in ("shape", "colour", "material") for value in VALUES[a]))
    rows = []
    for i in range(5000):
        scene = sample_scene(i, np.random.default_rng((18, i)), (2, 3), apart=apart)
        for caption in describe(scene, 3, np.random.default_rng((19, i))):
            if len(found := said.findall(caption.text)) == 1:
                hidden = " ".join("_" * len(found[0].split()))
                rest = names.sub("*", said.sub(hidden, caption.text)).lower().replace("the ", "a ").replace("* ", "")
                rows.append((hidden, rest, found[0]))
    by_length, by_rest, half = defaultdict(Counter), defaultdict(Counter), len(rows) // 2
    for hidden, rest, words in rows[:half]:
        by_length[hidden][words] += 1
        by_rest[rest][words] += 1
    hits = [
        [(found or by_length[hidden]).most_common(1)[0][0] == words for found in (by_rest[rest], by_length[hidden])]
        for hidden, rest, words in rows[half:]
    ]
    return np.mean(hits, axis=0)


def test_captions_of_things_that_stand_apart_do_not_tell_how_they_stand():
    """Size, material and sentence tell of a relation what its number of words tells, and no more."""
    from_rest, from_length = guess_relations(apart=True)
    assert from_rest < from_length + 0.02
    assert from_length < 0.55


def test_things_that_stand_apart_touch_nothing_and_opposites_are_as_likely():
    said: Counter[ToyRelation] = Counter()
    for i in range(1500):
        scene = sample_scene(i, np.random.default_rng((20, i)), (2, 3), apart=True)
        captions = describe(scene, 2, np.random.default_rng((25, i)))
        said.update(claim.relation for c in captions for claim in c.claims if isinstance(claim, Related))
        assert {related.relation for related in scene.relations} <= {
            *(ToyRelation.LEFT_OF, ToyRelation.RIGHT_OF, ToyRelation.NEXT_TO, ToyRelation.ABOVE, ToyRelation.BELOW)
        }
        assert all(thing.tilt == 0 for thing in scene.things)
    for one, other in ((ToyRelation.LEFT_OF, ToyRelation.RIGHT_OF), (ToyRelation.ABOVE, ToyRelation.BELOW)):
        assert said[one] / (said[one] + said[other]) == pytest.approx(0.5, abs=0.06)


def test_features_tell_every_attribute():
    detector = SimulatedDetector()
    features, truth = [], []
    for i in range(600):
        scene = sample_scene(i, np.random.default_rng((16, i)))
        regions = detector.detect(scene, np.random.default_rng((17, i)))
        assert len(regions.boxes) >= 1
        for feature, thing in zip(regions.features, regions.things, strict=True):
            if thing >= 0:
                features.append(feature)
                truth.append(scene.things[thing])
    x = np.c_[np.array(features), np.ones(len(features))]
    half = len(x) // 2
    for attribute, values in VALUES.items():
        labels = np.array([values.index(thing.value(attribute)) for thing in truth])
        weights = np.linalg.lstsq(x[:half], np.eye(len(values))[labels[:half]], rcond=None)[0]
        assert ((x[half:] @ weights).argmax(axis=1) == labels[half:]).mean() > 0.97, attribute


def test_a_feature_size_without_room_for_the_codes_is_refused():
    with pytest.raises(ValueError, match="at least 32"):
        SimulatedDetector(feature_size=16)


def test_a_larger_picture_shows_the_same(scenes):
    large = render(scenes[0], scale=2).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    difference = np.abs(np.asarray(large, np.int16) - np.asarray(render(scenes[0]), np.int16))
    assert difference.mean() < 3


def test_every_thing_is_drawn_inside_its_box(scenes):
    scene = next(scene for scene in scenes if scene.shelf is None)
    empty = np.asarray(render(Scene(0, (), None, scene.backdrop)), np.int16)
    changed = np.abs(np.asarray(render(scene), np.int16) - empty).sum(axis=-1) > 40
    outside = changed.copy()
    for thing in scene.things:
        box = thing.box
        assert changed[box.y1 : box.y2, box.x1 : box.x2].mean() > 0.25
        outside[box.y1 : box.y2, box.x1 : box.x2] = False
    assert outside.mean() < 0.03  # shadows


def test_command_writes_a_world_and_says_so(tmp_path):
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "w"), "--num-images", "3"])
    assert result.exit_code == 0, result.output
    assert "15" in result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w"]
    assert len(list((tmp_path / "w/images").iterdir())) == 3


def test_command_refuses_a_folder_that_is_not_empty(tmp_path):
    out = tmp_path / "w"
    command = ["--out", str(out), "--num-images", "2"]
    assert CliRunner().invoke(app, command).exit_code == 0
    before = contents(out)
    assert CliRunner().invoke(app, command).exit_code == 2
    assert contents(out) == before
    assert CliRunner().invoke(app, [*command, "--overwrite", "--seed", "1"]).exit_code == 0
    assert contents(out) != before


def test_overwrite_spares_a_folder_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").write_text("three years of work")
    result = CliRunner().invoke(app, ["--out", str(tmp_path), "--num-images", "2", "--overwrite"])
    assert result.exit_code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["images/mine.jpg", "regions/9.npz", "tasks/note.txt"])
@pytest.mark.parametrize("link", [False, True])
def test_overwrite_removes_only_what_the_world_lists(tmp_path, name, link):
    command = ["--out", str(tmp_path / "w"), "--num-images", "2"]
    assert CliRunner().invoke(app, command).exit_code == 0
    (tmp_path / "mine.partial").mkdir()
    (tmp_path / "w.partial").mkdir()
    (tmp_path / "w" / name).parent.mkdir(exist_ok=True)
    if link:
        (tmp_path / "w" / name).symlink_to(tmp_path / "mine.partial")
    else:
        (tmp_path / "w" / name).write_text("mine")
    before = contents(tmp_path / "w")
    refused = CliRunner().invoke(app, [*command, "--overwrite"])
    assert refused.exit_code == 2
    assert name in refused.output
    assert contents(tmp_path / "w") == before
    (tmp_path / "w" / name).unlink()
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.partial", "w", "w.partial"]


def test_a_damaged_scene_is_refused(tmp_path):
    write_world(ToyWorld(images=2), tmp_path / "w")
    path = tmp_path / "w/scenes.jsonl"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(InputError, match="differs from its checksum"):
        list(read_scenes(path))


@pytest.mark.parametrize(
    "options", [["--min-things", "5", "--max-things", "4"], ["--num-images", "0"], ["--things", "3"]]
)
def test_wrong_usage_exits_with_2(tmp_path, options):
    assert CliRunner().invoke(app, ["--out", str(tmp_path / "w"), *options]).exit_code == 2
    assert not (tmp_path / "w").exists()


def test_the_next_run_removes_what_a_killed_one_left(tmp_path):
    kill = (
        "import os; from pathlib import Path; from pipeline.toyworld.write import ToyWorld, write_world;"
        f"write_world(ToyWorld(images=60), Path({str(tmp_path / 'w')!r}), progress=lambda _: os.kill(os.getpid(), 9))"
    )
    # The workers hold the pipe: it ends when all of them have ended.
    killed = subprocess.run([sys.executable, "-c", kill], stdout=subprocess.PIPE, timeout=60)
    assert killed.returncode == -9
    assert [path.name[:3] for path in tmp_path.iterdir()] == [".w."]
    assert CliRunner().invoke(app, ["--out", str(tmp_path / "w"), "--num-images", "2"]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
