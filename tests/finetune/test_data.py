"""The files of a task, opened for a model."""

import hashlib

import pytest

from finetune.data import TaskFiles
from finetune.tasks.refcoco_plus import RefcocoPlus, RefcocoPlusSettings
from parsers.checksums import forget_checksums
from parsers.command import InputError
from tests.finetune.worlds import FEATURES, grid, regions_folder, write_model, write_refer

IMAGES = {str(image): grid(4) for image in range(6)}


@pytest.fixture
def task():
    return RefcocoPlus(RefcocoPlusSettings(max_text=12))


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def files(tmp_path):
    regions = regions_folder(tmp_path / "regions", IMAGES)
    return TaskFiles(write_refer(tmp_path / "data"), [regions])


def test_splits_follow_each_other(files, task, model):
    split = files.open(task, ["val", "train"], model)
    assert [example.expression_id for example in split.examples] == ["5", "0", "1", "2", "4"]
    assert all(example.image_id in split.sources.images for example in split.examples)
    assert split.sources.gold is None


def test_ground_truth_regions_may_lack_images(files, task, model, tmp_path, capsys):
    gold = regions_folder(tmp_path / "gold", {"0": grid(1)})
    split = TaskFiles(files.folder, files.regions, [gold]).open(task, ["train"], model)
    assert "0" in split.sources.gold
    assert "no --gold-regions for 3 images of train, e.g. 1" in capsys.readouterr().out


def test_images_without_regions_are_refused_or_blank(files, task, model, tmp_path, capsys):
    some = [regions_folder(tmp_path / "some", {"0": grid(1)})]
    with pytest.raises(InputError, match=r"no regions for 3 images of train, e\.g\. 1; add their --regions"):
        TaskFiles(files.folder, some).open(task, ["train"], model)
    split = TaskFiles(files.folder, some, allow_missing_images=True).open(task, ["train"], model)
    assert len(split.sources.read_image("1").features) == 1
    assert "blank images are shown instead" in capsys.readouterr().out


def test_regions_under_cocos_names_are_found_by_an_option_that_is_proposed(files, task, model, tmp_path):
    names = ["COCO_train2014_000000000000", "COCO_val2014_000000000001", "000000000002", "4"]
    named = [regions_folder(tmp_path / "named", {name: grid(4) for name in names})]
    with pytest.raises(InputError, match=r"no regions for 3 images .*--coco-ids finds 3 of them"):
        TaskFiles(files.folder, named).open(task, ["train"], model)
    split = TaskFiles(files.folder, named, coco_ids=True).open(task, ["train"], model)
    assert all(len(split.sources.read_image(example.image_id).features) == 5 for example in split.examples)
    with pytest.raises(InputError, match=r"e\.g\. 5; add their --regions, or show blank"):
        TaskFiles(files.folder, named, coco_ids=True).open(task, ["val"], model)


@pytest.mark.parametrize("more", ["another\n", "\n\n"])
def test_a_vocabulary_that_is_too_large_for_the_model_is_refused(files, task, model, more):
    """A piece that comes again has a number of its own, too."""
    with (model / "vocab.txt").open("a") as stream:
        stream.write(more)
    forget_checksums(model)
    with pytest.raises(InputError, match=r"vocab\.txt: holds \d+ word pieces, but the model has rows for"):
        files.open(task, ["train"], model)


def test_what_does_not_fit_the_model_is_refused(files, task, model, tmp_path):
    larger = [regions_folder(tmp_path / "larger", IMAGES, features=FEATURES + 1)]
    with pytest.raises(InputError, match=f"features of size {FEATURES + 1}, but .* takes {FEATURES}"):
        TaskFiles(files.folder, larger).open(task, ["train"], model)
    long = RefcocoPlus(RefcocoPlusSettings(max_text=41))
    with pytest.raises(InputError, match=r"texts of 41 positions are longer than the 40 .*lower task\.max_text"):
        files.open(long, ["train"], model)
    with pytest.raises(InputError, match="give --regions"):
        TaskFiles(files.folder).open(task, ["train"], model)


def test_a_split_without_examples_is_refused(files, task, model):
    (files.folder / "none.tsv").write_text("")
    with pytest.raises(InputError, match=r"none\.tsv holds no examples"):
        files.open(task, ["none.tsv"], model)


def test_regions_are_known_by_how_they_were_made(files, tmp_path):
    gold = regions_folder(tmp_path / "gold", {"0": grid(1)})
    expected = [hashlib.sha256((folder / "stage.json").read_bytes()).hexdigest() for folder in (*files.regions, gold)]
    assert TaskFiles(files.folder, files.regions, [gold]).compute_checksums() == expected
    assert expected[0] != expected[1]
