"""What all tasks have in common: splits, regions, and predictions that ranks share."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from finetune.inputs import TaskBatch
from finetune.released.tsv import LineRegions
from finetune.task import Split, Task, TaskSettings
from finetune.tasks.vqa import Vqa, VqaSettings
from parsers.command import InputError
from pretrain.training.distributed import CollectiveError, DistributedContext


@dataclass(frozen=True)
class Letter:
    image_id: str


class Letters(Task):
    """Predicts each letter as it is; the model returns its input."""

    name, metric, settings_type = "letters", "accuracy", TaskSettings

    def collate(self, split, numbers, random):
        self.collated.append(numbers.tolist())
        return TaskBatch({"numbers": torch.from_numpy(numbers)}, {})

    def predict(self, logits, batch, examples):
        assert logits.dtype == torch.float32
        return [{"letter": e.image_id, "logit": int(value)} for e, value in zip(examples, logits, strict=True)]

    read = write = read_predictions = evaluate = count_targets = compute_loss = None


@pytest.fixture
def task():
    task = Letters(TaskSettings())
    task.collated = []
    return task


@pytest.fixture
def split():
    return Split([Letter(letter) for letter in "abcdefg"], None)


def model(numbers):
    return numbers.double()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_share_a_split_and_each_has_all_predictions_in_order(task, split, size):
    """All ranks play in this process, one after the other; every rank calls the model equally often."""
    gathered = []

    class Rank(DistributedContext):
        def all_reduce(self, tensor):
            return tensor

        def gather(self, item):
            gathered.append(item)
            return [item]

    for rank in range(size):
        task.infer(model, split, batch_size=2, world=Rank(rank, size, torch.device("cpu")))
    assert len(task.collated) == size * -(-4 // size)
    found = sorted((pair for own in gathered for pair in own), key=lambda pair: pair[0])
    assert [prediction for _, prediction in found] == [
        {"letter": letter, "logit": number} for number, letter in enumerate("abcdefg")
    ]

    class All(Rank):
        def gather(self, item):
            return list(reversed(gathered))

    predictions = task.infer(model, split, batch_size=2, world=All(0, size, torch.device("cpu")))
    assert predictions == [prediction for _, prediction in found]


def test_a_share_that_another_rank_cannot_read_ends_this_rank_too(task, split):
    class First(DistributedContext):
        def all_reduce(self, tensor):
            return tensor + 1

        def gather(self, item):
            return [item, "the regions of image c are damaged"]

    with pytest.raises(CollectiveError, match="the regions of image c are damaged"):
        task.infer(model, split, batch_size=2, world=First(0, 2, torch.device("cpu")))
    assert task.collated == [[0, 1]]


def test_examples_are_taken_by_position(split):
    assert split.take(np.array([2, 0])) == [Letter("c"), Letter("a")]


def test_regions_are_given_unless_a_released_file_brings_its_own(task, tmp_path, shared):
    with pytest.raises(InputError, match=r"val has no region features of its own; give --regions"):
        task.open_regions(tmp_path, "val", None)
    given = {"1": None}
    assert task.open_regions(tmp_path, "val", given) is given
    assert task.open_regions(tmp_path, "val.tsv", given) is given, "letters have no released files"
    vqa = Vqa(VqaSettings())
    assert isinstance(vqa.open_regions(shared / "parity/readers", "vqa.tsv", given), LineRegions)


def test_a_task_changes_nothing_unless_it_says_so(task, split):
    assert task.fit(split.examples) is task
    assert task.files == ()
    assert task.compute_loss_weight(64) == 1
    assert task.rename_regions("regions", split.examples) == "regions"
    assert not task.has_parts


def test_settings_are_checked():
    with pytest.raises(ValueError, match="max_text"):
        TaskSettings(max_text=2)
    with pytest.raises(ValueError, match="max_words"):
        TaskSettings(max_words=2)
    assert TaskSettings(max_text=9).longest_text == 9
