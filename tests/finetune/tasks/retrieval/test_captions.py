"""The captions of Karpathy's file and of a released file."""

import json

import pytest

from finetune.tasks.retrieval.captions import RetrievalCaption
from finetune.tasks.vqa import Vqa, VqaSettings
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
        (
            "dataset_a.json",
            '{"images": [{"split": "train", "cocoid": 1, "sentences": [{"raw": "a"}]}]}',
            "test",
            "no split 'test', only train$",
        ),
        ("dataset_a.json", '{"images": [{"sentences": []}]}', "test", "holds no captions"),
        ("dataset_a.json", '{"images": [{"sentences": 3}]}', "test", "holds no captions .*a list `sentences`"),
        ("dataset_a.json", "{", "test", "cannot be read as JSON"),
        ("other.json", "{}", "test", "holds 0 files"),
        ("a.csv", "file,caption\n1.jpg,a\n2.jpg,b\n", "b.csv", "cannot be read"),
        ("a.csv", "file,text\n1.jpg,a\n", "a.csv", "format not recognised"),
        ("a.csv", "file,caption\n1.jpg,\n", "a.csv", "holds no captions .*line 2: empty caption"),
        ("a.csv", "image_id,caption_id,caption\n1,7,a\n2,7,b\n", "a.csv", "share an id"),
        ("a.tsv", "17\t3\n", "a.tsv", "line at byte 0: wrong number of columns: 2, expected 3"),
        ("a.tsv", "17\t3\ta\n18\t3\tb\n", "a.tsv", "share an id"),
        ("a.tsv", "", "b.tsv", "cannot be read"),
    ],
)
def test_damaged_files_are_refused(tmp_path, task, name, content, split, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=problem):
        task.read(tmp_path, split)


PHOTOS = [f"{number:012}.jpg" for number in range(20)]


def write_captions(folder, kind):
    """Two captions of each of 20 photos, in one of several formats."""
    rows = [(photo, f"{word} of {int(photo[:-4])}") for photo in PHOTOS for word in ("a picture", "a photo")]
    match kind:
        case "csv":
            text = "file,caption\n" + "".join(f"{photo},{caption}\n" for photo, caption in rows)
        case "tsv":
            text = "caption\timage\n" + "".join(f"{caption}\t{photo}\n" for photo, caption in rows)
        case "jsonl":
            lines = ({"image_id": photo[:-4].lstrip("0") or "0", "caption": caption} for photo, caption in rows)
            text = "".join(json.dumps(line) + "\n" for line in lines)
        case "json":
            items = [{"image_id": int(photo[:-4]), "id": n, "caption": text} for n, (photo, text) in enumerate(rows)]
            text = json.dumps({"annotations": items})
    path = folder / f"captions.{kind}"
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_any_file_that_parse_reads_is_divided_by_image(tmp_path, task, kind):
    path = write_captions(tmp_path, kind)
    train, val = task.read(path, "train"), task.read(path, "val")
    assert (len(train), len(val)) == (32, 8)
    ids = {str(number) for number in range(20)}
    assert {c.image_id for c in train} | {c.image_id for c in val} == ids
    assert not {c.image_id for c in train} & {c.image_id for c in val}
    assert all(caption.text.endswith(f" of {caption.image_id}") for caption in train + val)
    assert len({c.caption_id for c in train + val}) == 40
    whole = task.read(tmp_path, path.name)
    assert sorted(whole, key=lambda c: int(c.caption_id)) == sorted(train + val, key=lambda c: int(c.caption_id))
    with pytest.raises(InputError, match=r"no split 'test', only train, val: it names none"):
        task.read(path, "test")


def test_the_columns_of_a_table_may_have_other_names(tmp_path, task):
    (tmp_path / "train.csv").write_text("photo,text\n7,a dog\n8,a cat\n")
    columns = task.with_columns({"image_id": "photo", "caption": "text"})
    assert columns.read(tmp_path, "train.csv") == [
        RetrievalCaption("0", "7", "a dog"),
        RetrievalCaption("1", "8", "a cat"),
    ]
    assert columns.fit(columns.read(tmp_path, "train.csv")).read(tmp_path, "train.csv")


def test_rows_that_are_no_captions_are_counted(tmp_path, task, capsys):
    (tmp_path / "train.csv").write_text("file,caption\n1.jpg,a dog\n2.jpg,\n3.jpg,\n")
    assert [caption.image_id for caption in task.read(tmp_path, "train.csv")] == ["1"]
    assert (
        "train.csv: 2 rows cannot be used and are left out, the first is line 3: empty caption"
        in capsys.readouterr().out
    )


def test_other_tasks_have_no_columns():
    with pytest.raises(InputError, match="vqa reads official files and no tables of captions; leave out --columns"):
        Vqa(VqaSettings()).with_columns({"caption": "text"})
