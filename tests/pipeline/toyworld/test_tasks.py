"""The toy world's data sets of the downstream tasks: official layouts, true answers, and no answer without a look."""

from __future__ import annotations

import json
import pickle
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.parse.formats import read_karpathy, read_vcr
from pipeline.toyworld import Scene, ToyWorld, read_scenes, sample_scene, write_world
from pipeline.toyworld.captions import WORDINGS
from pipeline.toyworld.scene import COLOURS, SHAPES, VALUES, Related
from pipeline.toyworld.tasks import ask, choose, refer
from tests.pipeline.outputs import contents

WORLD = ToyWorld(images=60, seed=3, tasks=True)
SPLITS = "train", "val", "test"
RELATIONS = {
    form: relation
    for relation, wordings in WORDINGS.items()
    for wording in wordings
    for form in (wording.singular, wording.bare)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("world") / "toys"
    write_world(WORLD, out)
    return out


@pytest.fixture(scope="module")
def scenes(folder) -> dict[int, Scene]:
    return {scene.image_id: scene for scene in read_scenes(folder / "scenes.jsonl")}


def read(folder, name):
    return json.loads((folder / "tasks" / name).read_text())


def lines(folder, name):
    return [json.loads(line) for line in (folder / "tasks" / name).read_text().splitlines()]


def test_the_same_bytes_again_and_none_of_the_world_changed(folder, tmp_path):
    write_world(WORLD, tmp_path / "again", workers=2)
    assert contents(tmp_path / "again") == contents(folder)
    write_world(ToyWorld(images=60, seed=3), tmp_path / "plain", workers=2)
    plain, whole = contents(tmp_path / "plain"), contents(folder)
    checksums = (json.loads(found.pop("checksums.json")) for found in (plain, whole))
    for without, found in ((plain, whole), tuple(checksums)):
        assert without == {name: value for name, value in found.items() if not name.startswith("tasks/")}


def test_a_picture_is_in_the_same_split_of_every_task(folder):
    found = defaultdict(set)
    for split in SPLITS:
        for question in read(folder, f"vqa/v2_OpenEnded_mscoco_{split}_questions.json")["questions"]:
            found[question["image_id"]].add(split)
        for line in lines(folder, f"vcr/{split}.jsonl"):
            found[int(line["img_fn"])].add(split)
    for image in read(folder, "flickr30k/dataset_flickr30k.json")["images"]:
        found[image["cocoid"]].add(image["split"])
    tests = defaultdict(set)
    for ref in pickle.loads((folder / "tasks/refcoco_plus/refs(unc).p").read_bytes()):
        found[ref["image_id"]].add(ref["split"].rstrip("AB"))
        tests[ref["image_id"]].add(ref["split"])
    assert found.keys() == set(range(1, 61))
    assert all(len(splits) == 1 for splits in (*found.values(), *tests.values()))
    assert Counter(split for (split,) in found.values()) == {"train": 48, "val": 6, "test": 6}
    assert {split for (split,) in tests.values()} == {"train", "val", "testA", "testB"}


# ---------------------------------------------------------------------------------------------- what the words mean


def named(scene: Scene, phrase: str) -> int:
    """The one thing that a noun phrase fits."""
    words = phrase.removeprefix("the ").split()
    fitting = [
        i
        for i, thing in enumerate(scene.things)
        if {*words} <= {thing.value(a) for a in VALUES} and words[-1] == thing.shape
    ]
    assert len(fitting) == 1, (phrase, scene)
    return fitting[0]


def related(scene: Scene, words: str) -> bool:
    """Whether "the red cube behind the ball" is so."""
    for form in sorted(RELATIONS, key=len, reverse=True):
        left, found, right = words.partition(f" {form} ")
        if found:
            return Related(named(scene, left), RELATIONS[form], named(scene, right)) in scene.relations
    raise AssertionError(words)


def answer(scene: Scene, text: str) -> str:
    """The answer to a question of VQA, found by reading it."""
    things = scene.things
    if found := re.fullmatch(r"What color is (the .+)\?", text):
        return things[named(scene, found[1])].colour
    if found := re.fullmatch(r"How many (\w+) things are there\?", text):
        return str(sum(thing.colour == found[1] for thing in things))
    if found := re.fullmatch(r"How many (\w+)s are there\?", text):
        return str(sum(thing.shape == found[1] for thing in things))
    if found := re.fullmatch(r"Is there a (\w+) (\w+)\?", text):
        return "yes" if any((t.colour, t.shape) == found.groups() for t in things) else "no"
    if found := re.fullmatch(rf"Is (the .+) ({'|'.join(COLOURS)})\?", text):
        return "yes" if things[named(scene, found[1])].colour == found[2] else "no"
    if found := re.fullmatch(r"Is (the .+)\?", text):
        return "yes" if related(scene, found[1]) else "no"
    found = re.fullmatch(r"What (.+) (the .+)\?", text)
    (subject,) = [
        r.subject for r in scene.relations if r.relation is RELATIONS[found[1]] and r.object == named(scene, found[2])
    ]
    return things[subject].shape


def holds(scene: Scene, tokens: list) -> bool:
    """Whether a choice of VCR is so."""
    (thing,), *words = tokens
    if isinstance(words[-5], list):
        relation, (other,), colour = RELATIONS[" ".join(words[:-5])], words[-5], words[-2]
        return Related(thing, relation, other) in scene.relations and scene.things[other].colour == colour
    _, colour, _, material, _ = words
    return (scene.things[thing].colour, scene.things[thing].material) == (colour, material)


# --------------------------------------------------------------------------------------------------------------- VQA


@pytest.mark.parametrize("split", SPLITS)
def test_vqa_has_the_official_layout_and_true_answers(folder, scenes, split):
    questions = read(folder, f"vqa/v2_OpenEnded_mscoco_{split}_questions.json")
    annotations = read(folder, f"vqa/v2_mscoco_{split}_annotations.json")
    assert questions.keys() == {"info", "license", "task_type", "data_type", "data_subtype", "questions"}
    assert annotations.keys() == {"info", "license", "data_type", "data_subtype", "annotations"}
    ids = [question["question_id"] for question in questions["questions"]]
    assert ids == [annotation["question_id"] for annotation in annotations["annotations"]]
    assert len(set(ids)) == len(ids) == 6 * (48 if split == "train" else 6)
    for question, annotated in zip(questions["questions"], annotations["annotations"], strict=True):
        assert question.keys() == {"image_id", "question", "question_id"}
        assert annotated.keys() == {
            "image_id", "question_id", "question_type", "answer_type", "multiple_choice_answer", "answers",
        }  # fmt: skip
        assert question["image_id"] == annotated["image_id"]
        right = answer(scenes[question["image_id"]], question["question"])
        assert annotated["multiple_choice_answer"] == right
        assert question["question"].lower().startswith(annotated["question_type"])
        assert [given["answer_id"] for given in annotated["answers"]] == list(range(1, 11))
        assert sum(given["answer"] == right for given in annotated["answers"]) >= 7
        assert {given["answer_confidence"] for given in annotated["answers"]} <= {"yes", "maybe"}
        kind = "yes/no" if right in ("yes", "no") else "number" if right.isdigit() else "other"
        assert annotated["answer_type"] == kind


# --------------------------------------------------------------------------------------------------------------- VCR


@pytest.mark.parametrize("split", SPLITS)
def test_vcr_has_the_official_layout_and_one_true_choice_each(folder, scenes, split):
    found = lines(folder, f"vcr/{split}.jsonl")
    assert [line["annot_id"] for line in found] == [f"{split}-{i}" for i in range(len(found))]
    for line in found:
        assert line.keys() == {
            "movie", "objects", "interesting_scores", "answer_likelihood", "img_fn", "metadata_fn", "answer_orig",
            "question_orig", "rationale_orig", "question", "answer_match_iter", "answer_sources", "answer_choices",
            "answer_label", "rationale_choices", "rationale_sources", "rationale_match_iter", "rationale_label",
            "img_id", "question_number", "annot_id", "match_fold", "match_index",
        }  # fmt: skip
        scene = scenes[int(line["img_fn"])]
        assert line["img_id"] == line["img_fn"]
        assert line["objects"] == [thing.shape for thing in scene.things]
        for part in ("answer", "rationale"):
            truth = [holds(scene, tokens) for tokens in line[f"{part}_choices"]]
            assert truth == [i == line[f"{part}_label"] for i in range(4)]
        asked = line["question"][2][0]
        assert all(choice[0] == [asked] for part in ("answer", "rationale") for choice in line[f"{part}_choices"])
        metadata = read(folder, f"vcr/metadata/{line['metadata_fn']}")
        assert metadata["names"] == line["objects"]
        boxes = [[*scene.to_dict()["things"][i]["box"], 1.0] for i in range(len(scene.things))]
        assert metadata["boxes"] == boxes
        assert len(metadata["segms"]) == len(boxes)
        with np.load(folder / f"tasks/vcr/regions/{scene.image_id}.npz") as regions:
            assert regions["bbox"].tolist() == [box[:4] for box in boxes]
            assert regions["features"].shape == (len(boxes), 64)


def test_vcr_is_read_by_the_stage(folder):
    row = next(iter(read_vcr(folder / "tasks/vcr/train.jsonl", {})))
    assert (folder / f"regions/{row.image_id}.npz").is_file()
    assert len(row.segments) == 2


# ------------------------------------------------------------------------------------------------------------ captions


def test_captions_have_karpathys_layout(folder):
    data = read(folder, "flickr30k/dataset_flickr30k.json")
    coco = json.loads((folder / "captions.json").read_text())
    assert data.keys() == {"images", "dataset"}
    sentences = [sentence for image in data["images"] for sentence in image["sentences"]]
    assert [sentence["raw"] for sentence in sentences] == [a["caption"] for a in coco["annotations"]]
    assert [sentence["sentid"] for sentence in sentences] == list(range(300))
    for number, image in enumerate(data["images"]):
        assert image.keys() == {"sentids", "imgid", "sentences", "split", "filename", "cocoid"}
        assert image["imgid"] == number
        assert image["sentids"] == [sentence["sentid"] for sentence in image["sentences"]]
        with Image.open(folder / "images" / image["filename"]) as picture:
            assert picture.format == "PNG"
        for sentence in image["sentences"]:
            assert sentence.keys() == {"tokens", "raw", "imgid", "sentid"}
            assert " ".join(sentence["tokens"]) == re.sub(r"[^a-z0-9 ]", "", sentence["raw"].lower())
    rows = list(read_karpathy(folder / "tasks/flickr30k/dataset_flickr30k.json", {}))
    assert {str(row.image_id) for row in rows} == {path.stem for path in (folder / "regions").iterdir()}


# ------------------------------------------------------------------------------------------------------------ RefCOCO+


def meant(scene: Scene, expression: str) -> int:
    """The one thing that an expression fits, found by reading it."""
    things = scene.things
    if found := re.fullmatch(r"thing that is not (?:a )?(\w+)", expression):
        (thing,) = [i for i, t in enumerate(things) if found[1] not in {t.value(a) for a in VALUES}]
        return thing
    if found := re.fullmatch(r"thing of the same (\w+) as (the .+)", expression):
        other, attribute = named(scene, found[2]), found[1].replace("color", "colour")
        like = [i for i, t in enumerate(things) if t.value(attribute) == things[other].value(attribute)]
        (thing,) = {*like} - {other}
        assert len(things) > 2
        return thing
    phrase, *_ = re.split(r" (?=covering|covered|carrying|touching|leaning)", expression)
    assert phrase == expression or related(scene, expression)
    return named(scene, phrase)


def test_refcoco_plus_has_refers_layout_and_expressions_that_fit_one_thing(folder, scenes):
    refs = pickle.loads((folder / "tasks/refcoco_plus/refs(unc).p").read_bytes())
    instances = read(folder, "refcoco_plus/instances.json")
    assert instances.keys() == {"info", "licenses", "images", "annotations", "categories"}
    annotations = {annotation["id"]: annotation for annotation in instances["annotations"]}
    assert len(annotations) == sum(len(scene.things) for scene in scenes.values())
    shapes = {category["id"]: category["name"] for category in instances["categories"]}
    assert [ref["ref_id"] for ref in refs] == list(range(len(refs)))
    sentences = [sentence for ref in refs for sentence in ref["sentences"]]
    assert [sentence["sent_id"] for sentence in sentences] == list(range(len(sentences)))
    for ref in refs:
        assert ref.keys() == {
            "ref_id", "ann_id", "image_id", "category_id", "file_name", "split", "sent_ids", "sentences",
        }  # fmt: skip
        scene, annotation = scenes[ref["image_id"]], annotations[ref["ann_id"]]
        assert annotation["image_id"] == ref["image_id"]
        x, y, width, height = annotation["bbox"]
        assert annotation["area"] == width * height
        (thing,) = [i for i, t in enumerate(scene.to_dict()["things"]) if t["box"] == [x, y, x + width, y + height]]
        assert shapes[ref["category_id"]] == scene.things[thing].shape
        if ref["split"].startswith("test"):
            assert (ref["split"] == "testA") == (scene.things[thing].shape in SHAPES[:4])
        for sentence in ref["sentences"]:
            assert sentence["tokens"] == sentence["sent"].split()
            assert meant(scene, sentence["sent"]) == thing
            places = {"left", "right", "above", "below", "behind", "front", "top", "next", "near", "under"}
            assert not places & set(sentence["tokens"])


# -------------------------------------------------------------------------------------------------- the words alone


@pytest.fixture(scope="module", params=[False, True], ids=["groups", "apart"])
def many_scenes(request):
    return [sample_scene(i, np.random.default_rng((21, i)), (2, 3), apart=request.param) for i in range(2500)]


def guess(train, test):
    """How often the most frequent answer to the same words, or else to the same form, is right."""
    known, forms = defaultdict(Counter), defaultdict(Counter)
    for form, words, right in train:
        known[words][right] += 1
        forms[form][right] += 1
    hits = [(known.get(words) or forms[form]).most_common(1)[0][0] == right for form, words, right in test]
    return np.mean(hits)


def test_the_question_alone_does_not_tell_the_answer(many_scenes):
    """Guessing from the words: about half of yes/no, less than half of numbers, a seventh of the rest."""
    asked = [
        (q.answer_type, (q.form, q.text, q.answer))
        for scene in many_scenes
        for q in ask(scene, 6, np.random.default_rng((22, scene.image_id)))
    ]
    half = len(asked) // 2
    for kind, most in (("yes/no", 0.56), ("number", 0.46), ("other", 0.17)):
        train, test = ([row for of, row in part if of == kind] for part in (asked[:half], asked[half:]))
        assert len(test) > 1000
        assert guess(train, test) < most


def test_the_choices_alone_do_not_tell_the_right_one(many_scenes):
    """Neither a choice's words nor its place: the best guess from either is right in about a quarter."""
    rows = defaultdict(list)
    for scene in many_scenes:
        spoken = [thing.shape for thing in scene.things]
        for choice in choose(scene, 3, np.random.default_rng((23, scene.image_id))):
            for part, choices, right in (
                ("answer", choice.answers, choice.answer),
                ("rationale", choice.rationales, choice.rationale),
            ):
                said = [" ".join(t if isinstance(t, str) else spoken[t[0]] for t in c) for c in choices]
                rows[part].append((said, right))
    for found in rows.values():
        half = len(found) // 2
        right_of, seen = Counter(), Counter()
        for said, right in found[:half]:
            seen.update(said)
            right_of[said[right]] += 1
        hits = [
            max(range(4), key=lambda i, said=said: (right_of[said[i]] + 1) / (seen[said[i]] + 4)) == right
            for said, right in found[half:]
        ]
        assert len(hits) > 1000
        assert abs(np.mean(hits) - 0.25) < 0.04
        places = Counter(right for _, right in found)
        assert max(places.values()) / len(found) < 0.28


def test_expressions_of_all_kinds_are_made_for_most_things(many_scenes):
    said = [
        refer(scene, thing, 2, np.random.default_rng((24, scene.image_id)))
        for scene in many_scenes[:200]
        for thing in range(len(scene.things))
    ]
    assert np.mean([bool(found) for found in said]) > 0.85
    expressions = [expression for found in said for expression in found]
    compared = [e for e in expressions if " not " in e or " same " in e]
    assert 0.3 < len(compared) / len(expressions) < 0.7
