"""DeepSpeed's engine: how it is made from a recipe, how it steps, and how whole weights come out of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor, nn

from parsers.command import InputError
from pretrain.training.settings import REDUCE_BUCKET_ELEMENTS, TrainingRecipe


def make_engine(
    model: nn.Module, optimizer: torch.optim.Optimizer, recipe: TrainingRecipe, *, load_universal: bool
) -> deepspeed.DeepSpeedEngine:
    """Returns the engine that trains the model. All ranks call it.

    Args:
        model: is moved to the device and wrapped.
        optimizer: over the model's parameters.
        recipe: decides on precision, ZeRO, offloading, clipping and accumulation.
        load_universal: whether the engine will load a checkpoint that another number of ranks has written with ZeRO.
    """
    config = make_deepspeed_config(recipe, load_universal=load_universal)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    if recipe.precision == "bf16" and recipe.zero_stage in (1, 2) and not recipe.offload_optimizer:
        # DeepSpeed looks for numbers that are not finite in each gradient, with 7,500 operations for base. Then it
        # computes the norm, and skips the step as well if that is not finite: the first look finds nothing more.
        engine.optimizer.check_overflow = lambda partition_gradients: None  # noqa: ARG005
    return engine


def make_deepspeed_config(recipe: TrainingRecipe, *, load_universal: bool) -> dict[str, object]:
    """Returns DeepSpeed's configuration for a recipe."""
    zero: dict[str, object] = {"stage": recipe.zero_stage, "reduce_bucket_size": REDUCE_BUCKET_ELEMENTS}
    if recipe.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed requires one, though only the workload knows it and it varies
        "gradient_accumulation_steps": recipe.accumulation,
        "gradient_clipping": recipe.optimizer.clip if _deepspeed_clips(recipe) else 0.0,
        "bf16": {"enabled": recipe.precision == "bf16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "checkpoint": {"load_universal": load_universal},
        "steps_per_print": 10**9,
    }


def _deepspeed_clips(recipe: TrainingRecipe) -> bool:
    """Whether DeepSpeed wraps the optimiser: it then clips the gradient and skips a step that is not finite."""
    return recipe.zero_stage > 0 or recipe.precision == "bf16"


def clip_and_step(engine: deepspeed.DeepSpeedEngine, recipe: TrainingRecipe) -> float | None:
    """Clips the gradient and steps the optimiser.

    Returns:
        The global norm of the gradient before it was clipped. None if the gradient is not finite: then no step was
        taken.
    """
    if _deepspeed_clips(recipe):
        engine.step()
        return float(engine.get_global_grad_norm()) if engine.was_step_applied() else None
    norm = nn.utils.clip_grad_norm_(engine.module.parameters(), recipe.optimizer.clip)
    if not bool(norm.isfinite()):
        return None
    engine.step()
    return float(norm)


def gather_weights(engine: deepspeed.DeepSpeedEngine) -> dict[str, Tensor]:
    """Returns the weights in float32 on the CPU, by parameter name, gathered from all ranks. All ranks call it."""
    weights = {}
    for name, parameter in engine.module.named_parameters():
        master = safe_get_full_fp32_param(parameter)  # None where the parameter is its own master
        weights[name] = (parameter if master is None else master).detach().float().cpu().clone()
    return weights


@contextmanager
def explain_full_memory(what: str) -> Iterator[None]:
    """Turns the error of a full memory, of the device or of the host, into one that says what to change.

    Args:
        what: was tried; the subject of the message.

    Raises:
        InputError: the memory was full.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        tried = ". ".join(" ".join(str(error).split()).split(". ")[:2]) or "the host's memory is full"
        raise InputError(
            f"{what}: {tried}. Either raise accumulation or set gradient_checkpointing: true, and go on with --resume; "
            "or start anew with a smaller batch_size (or tokens), a higher zero_stage or offload_optimizer: true"
        ) from error
