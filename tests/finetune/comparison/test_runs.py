"""The tasks that are compared, and models to compare with."""

from finetune.comparison.chance import GUESSES
from finetune.comparison.runs import COMPARED, write_untrained
from finetune.tasks import TASKS
from pretrain.model.config import ModelConfig


def test_every_task_is_compared_with_guessing():
    assert COMPARED.keys() == GUESSES.keys() == TASKS.keys()


def test_a_model_without_pretraining_has_the_same_size(start, tmp_path):
    first, second = (write_untrained(start, tmp_path / str(seed), seed) for seed in (0, 1))
    assert ModelConfig.load(first / "config.json") == ModelConfig.load(start / "config.json")
    assert (first / "vocab.txt").read_bytes() == (start / "vocab.txt").read_bytes()
    assert (first / "model.safetensors").read_bytes() != (second / "model.safetensors").read_bytes()
