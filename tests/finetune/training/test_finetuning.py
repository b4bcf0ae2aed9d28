"""Fine-tuning as users start it, and its steps beside those of the released code."""

import json
from itertools import chain

import pytest
import torch

from finetune.inputs import TaskBatch
from finetune.released.checkpoints import import_released
from finetune.task import Split
from finetune.tasks.refcoco_plus import RefcocoPlus, RefcocoPlusSettings
from finetune.tasks.retrieval.captions import RetrievalCaption
from finetune.tasks.retrieval.task import Retrieval, RetrievalSettings
from finetune.tasks.vcr import Vcr, VcrSettings
from finetune.tasks.vqa import Vqa, VqaQuestion, VqaSettings
from finetune.training.finetuning import FineTuneDataset, FineTuning, fingerprint_examples
from finetune.training.recipe import FineTuneRecipe
from pretrain.model.released_names import released_name
from tests.finetune.training.test_released_training import settings_of

TASKS = {
    "vqa": Vqa(VqaSettings(answers=tuple("abcdefghijklmnopq"), hidden_size=32)),
    "vcr": Vcr(VcrSettings()),
    "refcoco_plus": RefcocoPlus(RefcocoPlusSettings()),
    "flickr": Retrieval(RetrievalSettings(easy_images=6, scale=32.0)),
}


def make_workload(released, hyperparameters, folder):
    """The task on a model folder that `finetune.import_checkpoint` makes of the first parameters."""
    released.write("params_step0.npz", folder / "released")
    import_released(folder / "released", released.model.config, folder / "ours", vocabulary=None, allow_missing=True)
    (folder / "ours/vocab.txt").touch()
    task = TASKS[released.task]
    recipe = FineTuneRecipe.for_task(type(task.settings))(
        train=("train",),
        steps=hyperparameters["num_train_steps"],
        batch_size=hyperparameters["batch_size"],
        task=task.settings,
        optimizer=settings_of(hyperparameters),
    )
    return FineTuning(task, recipe, folder / "ours", Split([None] * recipe.batch_size, None), None)


def read_batch(released, step):
    inputs, others = released.read_batch(f"inputs_{step}.npz")
    match released.task:
        case "vqa":
            labels = {"targets": others[0]}
        case "vcr":
            right = others[0].squeeze(1)
            labels = {"right": right, "rationale": (others[5] > 0).expand(len(right))}
        case "flickr":
            labels = {"groups": others[0].squeeze(1)}
        case _:
            labels = {"overlaps": others[0].squeeze(2), "real": inputs["image_mask"]}
    return TaskBatch(inputs, labels)


@pytest.mark.parametrize("training", ["vqa", "vcr", "refcoco_plus", "flickr"], indirect=True)
def test_three_steps_from_an_imported_checkpoint_are_the_released_ones(training, tmp_path):
    """The steps are taken as the training loop takes them.

    The gradients of each step are compared with the released ones; the optimiser then gets the released ones. Adam
    divides a gradient by its own size, so a gradient that is only rounding, such as that of a key's bias, would become
    a step of any size.
    """
    log = json.loads((training.folder / "log.json").read_text())
    workload = make_workload(training, log["hparams"], tmp_path)
    workload.model.eval()  # the released steps are without dropout; the head of VQA has its own
    optimizer = workload.make_optimizer()
    parameters = {released_name(name): p for name, p in workload.model.ernie_vil.named_parameters()}
    parameters |= {workload.model.head.released[name]: p for name, p in workload.model.head.named_parameters()}
    for step in range(3):
        rate = workload.prepare_step(optimizer, step, log["hparams"]["num_train_steps"])
        assert abs(rate - log["log"][step]["lr"]) <= 2e-7 * rate
        batch = read_batch(training, step)
        scores = workload.score(workload.model, batch)
        loss = (torch.tensor(workload.weights, dtype=torch.float64) * scores.loss / scores.count).sum()
        loss.float().backward()
        assert abs(loss.item() / log["log"][step]["outs"][0][0] - 1) <= 1e-6
        gradients = training.arrays(f"grads_{step}.npz")
        for name, parameter in parameters.items():
            assert (parameter.grad is None) == (name not in gradients), name
            if name in gradients:
                expected = gradients[name]
                error = (parameter.grad - expected).abs().max()
                assert error <= 1e-4 * expected.abs().max() + 1e-7, name  # at parameters that differ by up to 5e-7
                parameter.grad = expected.clone(memory_format=torch.contiguous_format)
        torch.nn.utils.clip_grad_norm_(parameters.values(), workload.recipe.optimizer.clip)
        optimizer.step()
        optimizer.zero_grad()
        for name, expected in training.arrays(f"params_step{step + 1}.npz").items():
            difference = (parameters[name] - expected).abs().max()
            assert difference <= 5e-7, f"step {step}, {name}: {difference}"


def test_examples_are_known_by_their_values():
    caption = RetrievalCaption("1", "2", "A dog.")
    same = [fingerprint_examples([caption]), fingerprint_examples([RetrievalCaption("1", "2", "A dog.")])]
    assert same[0] == same[1]
    assert fingerprint_examples([caption, caption]) != same[0]
    assert fingerprint_examples([RetrievalCaption("1", "2", "A cat.")]) != same[0]
    question = VqaQuestion(1, "2", "?", {"red": 0.3, "blue": 1.0})
    assert fingerprint_examples([question]) == fingerprint_examples(
        [VqaQuestion(1, "2", "?", {"blue": 1.0, "red": 0.3})]
    )


class Numbers(Retrieval):
    """A batch is a list of each example's position and first random number."""

    def collate(self, split, numbers, random):
        return [(number, draw.random()) for number, draw in zip(numbers.tolist(), random, strict=True)]


def test_a_step_has_every_example_of_its_batch_once_whatever_the_ranks():
    task, captions = Numbers(RetrievalSettings()), [RetrievalCaption(str(n), str(n), "") for n in range(11)]
    recipe = FineTuneRecipe.for_task(RetrievalSettings).model_validate(
        {"train": ["train"], "steps": 9, "batch_size": 4, "accumulation": 2, "task": {}, "optimizer": {}}
    )
    for step in range(6):
        alone = FineTuneDataset(task, Split(captions, None), recipe)[step]
        shared = [
            part
            for rank in range(3)
            for part in FineTuneDataset(task, Split(captions, None), recipe, rank=rank, ranks=3)[step]
        ]
        assert sorted(chain.from_iterable(alone)) == sorted(chain.from_iterable(shared))
        assert len(alone) == 2
    epoch = [
        n for step in range(3) for part in FineTuneDataset(task, Split(captions, None), recipe)[step] for n in part
    ]
    assert sorted(number for number, _ in epoch) == list(range(11))
