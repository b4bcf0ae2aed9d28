"""The heads, losses and the optimiser beside three training steps of the released code."""

import json

import pytest
import torch
from safetensors.torch import load_file

from finetune.heads import compute_answer_loss
from finetune.released.checkpoints import HEAD, import_released
from finetune.training.optimization import FineTuneOptimizer, group_parameters, prepare_step
from pretrain.model.encoder import WEIGHTS, ErnieViL

SCHEDULES = {"manual_warmup_decay": "steps", "linear_warmup_decay": "linear", "noam_decay": "noam"}


def load_imported(released, folder):
    """Loads what `import_checkpoint` makes of the files that the released code would have written."""
    released.write("params.npz", folder / "released")
    import_released(folder / "released", released.model.config, folder / "ours", vocabulary=None, allow_missing=True)
    released.model = ErnieViL.from_pretrained(folder / "ours")
    head = {n.removeprefix(HEAD): t for n, t in load_file(folder / "ours" / WEIGHTS).items() if n.startswith(HEAD)}
    missing, unexpected = released.head.load_state_dict(head, strict=False)
    assert not unexpected
    assert all(name.startswith("qar.") for name in missing)


def settings_of(released):
    return FineTuneOptimizer(
        learning_rate=released["learning_rate"],
        schedule=SCHEDULES[released["lr_scheduler"]],
        warmup_steps=released["warmup_steps"],
        decay_steps=[int(step) for step in released["decay_steps"].split(";") if step],
        decay_ratio=released["lr_decay_ratio"],
        layer_decay=released["layer_decay_rate"] or 1.0,
        weight_decay=released["weight_decay"],
    )


@pytest.mark.parametrize("imported", [False, True])
def test_scores_are_the_released_ones(forward_pass, imported, tmp_path):
    if imported:
        load_imported(forward_pass, tmp_path)
    else:
        forward_pass.load("params.npz")
    inputs, labels = forward_pass.read_batch("inputs.npz")
    with torch.no_grad():
        scores = forward_pass.head(forward_pass.model(**inputs))
    released = forward_pass.arrays("outputs.npz")
    match forward_pass.task:
        case "vqa":
            found, expected = compute_answer_loss(scores, labels[0])[None] / len(labels[0]), released["task_out_0"]
        case "vcr":
            found, expected = scores[0].view(-1, 4).softmax(1), released["task_out_5"]
        case "flickr":
            found, expected = scores[:, None], released["task_out_0"]
        case _:
            real = inputs["image_mask"]
            found, expected = scores[real], released["task_out_0"].squeeze(2)[real]
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-6)


def test_losses_and_gradients_are_the_released_ones(training):
    log = json.loads((training.folder / "log.json").read_text())
    # How much the released values are rounded where large terms cancel. The circle loss has a scale of 32.
    rounding = 1e-7 if training.task == "flickr" else 2e-8
    training.compute_exactly()
    for step in range(3):
        training.load(f"params_step{step}.npz")
        training.model.zero_grad()
        training.head.zero_grad()
        loss = training.loss(f"inputs_{step}.npz")
        loss.backward()
        assert abs(loss.item() / log["log"][step]["outs"][0][0] - 1) <= 1e-6

        released = training.arrays(f"grads_{step}.npz")
        found = {name: p.grad for name, p in training.parameters.items() if p.grad is not None}
        assert found.keys() == released.keys()
        for name, expected in released.items():
            error = (found[name] - expected).abs().max()
            assert error <= min(1e-5, 1e-5 * expected.abs().max() + rounding), name
            if name.endswith("key_fc.b_0"):  # it moves all scores of a query alike
                assert found[name].abs().max() <= 1e-15, name


def test_three_steps_of_the_optimiser_are_the_released_ones(training):
    """The steps use the released gradients: in a key's bias Adam would turn mere rounding into steps of any size."""
    log = json.loads((training.folder / "log.json").read_text())
    settings = settings_of(log["hparams"])
    training.load("params_step0.npz")
    groups = group_parameters(training.model, training.head, settings)
    assert sum(len(group["params"]) for group in groups) == len(training.parameters)
    optimizer = torch.optim.AdamW(groups, betas=settings.betas)
    for step in range(3):
        gradients = training.arrays(f"grads_{step}.npz")
        for name, parameter in training.parameters.items():
            parameter.grad = gradients[name].clone() if name in gradients else None
        torch.nn.utils.clip_grad_norm_(training.parameters.values(), settings.clip)
        prepare_step(optimizer, step, settings.learning_rate_at(step, log["hparams"]["num_train_steps"]))
        optimizer.step()
        for name, expected in training.arrays(f"params_step{step + 1}.npz").items():
            difference = (training.parameters[name] - expected).abs().max()
            assert difference <= 5e-7, f"step {step}, {name}: {difference}"


def test_learning_rates_are_the_released_ones(training):
    log = json.loads((training.folder / "log.json").read_text())
    settings = settings_of(log["hparams"])
    assert len(log["log"]) == 7
    for line in log["log"]:
        rate = settings.learning_rate_at(line["step"], log["hparams"]["num_train_steps"])
        assert abs(rate - line["lr"]) <= 2e-7 * line["lr"]
