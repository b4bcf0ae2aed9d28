"""The captions of Karpathy's file and of a released file."""

import json

import pytest

from finetune.tasks.retrieval.captions import RetrievalCaption
from parsers.command import InputError
from shards.regions.store import RegionStore


def test_captions_of_karpathys_file(toys, task):
    data = json.loads((toys.world / "tasks/flickr30k/dataset_flickr30k.json").read_text())
    for name in ("train", "val", "test"):
        captions = task.read(toys.world / "tasks/flickr30k", name)
        images = [image for image in data["images"] if image["split"] == name]
        assert [caption.text for caption in captions] == [s["raw"] for image in images for s in image["sentences"]]
        assert [caption.image_id for caption in captions] == [str(i["cocoid"]) for i in images for _ in range(3)]
        assert all(caption.image_id in RegionStore([toys.regions]) for caption in captions[:3])


def test_without_a_coco_id_the_file_name_is_the_image(tmp_path, task):
    sentence = {"raw": "A dog.", "sentid": 7, "tokens": ["a", "dog"], "imgid": 0}
    image = {"filename": "1000092795.jpg", "split": "test", "sentences": [sentence], "sentids": [7], "imgid": 0}
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": [image], "dataset": "flickr30k"}))
    assert task.read(tmp_path, "test") == [RetrievalCaption("7", "1000092795", "A dog.")]


@pytest.mark.parametrize(
    ("name", "content", "split", "problem"),
    [
        ("dataset_a.json", '{"images": [{"split": "train", "sentences": []}]}', "test", "no split 'test', only train"),
        ("dataset_a.json", '{"images": [{"sentences": []}]}', "test", "is not a file of Karpathy's layout"),
        ("dataset_a.json", "{", "test", "is no JSON"),
        ("other.json", "{}", "test", "holds 0 files"),
        ("a.tsv", "17\t3\n", "a.tsv", "line at byte 0: wrong number of columns: 2, expected 3"),
        ("a.tsv", "17\t3\ta\n18\t3\tb\n", "a.tsv", "share an id"),
        ("a.tsv", "", "b.tsv", "cannot be read"),
    ],
)
def test_damaged_files_are_refused(tmp_path, task, name, content, split, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=problem):
        task.read(tmp_path, split)
