"""What the tests of retrieval share."""

from __future__ import annotations

import numpy as np
import torch

from finetune.inputs import ImageRows
from finetune.tasks.retrieval.captions import number_images
from pretrain.training.distributed import DistributedContext

ALONE = DistributedContext(0, 1, torch.device("cpu"))


def every_pair(task, model, split):
    """Every caption with every image, one after the other, through the plain forward pass."""
    images, _ = number_images(split.examples)
    texts = [split.sources.texts.encode(caption.text, task.settings.max_text) for caption in split.examples]
    regions = [ImageRows.from_regions(split.sources.images[image]) for image in images]
    with torch.no_grad():
        return np.array([[model(**split.sources.pad([t], [r])).item() for r in regions] for t in texts])


def retrieve_arguments(toys, folder, out, *more):
    """What stands on the command line of `finetune.retrieve`."""
    data = ["--data", str(toys.world / "tasks/flickr30k"), "--regions", str(toys.regions)]
    return ["--model", str(folder), *data, "--split", "train", "--out", str(out), *more]


def collate_groups(task, split, numbers, seed=0):
    """A batch of training: each caption with its image, followed by false pairs."""
    random = [np.random.default_rng((seed, number)) for number in numbers]
    return task.fit(split.examples).collate(split, np.array(numbers, np.int64), random)
