"""Compiled training passes: one piece of code for all lengths, the same numbers, and a fallback that says why."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from pretrain.model import compilation
from pretrain.model.compilation import CompiledForward
from pretrain.model.encoder import ErnieViL
from pretrain.recipe import PretrainRecipe
from tests.pretrain.model.models import (
    PARITY,
    SHALLOW,
    a_batch,
    gradients,
    needs_parity,
    parity_config,
    parity_inputs,
    randomized,
    small,
)
from tests.pretrain.runs import RECIPE, STEPS, assert_undisturbed


@pytest.fixture
def traced(monkeypatch):
    """Graphs are made as always, but run as PyTorch's own operations: a compiler takes a minute for the first."""
    eager = torch._dynamo.lookup_backend("aot_eager")
    monkeypatch.setattr(compilation, "inductor", lambda: eager)
    torch.compiler.reset()


def compiled(**changes):
    model, said = randomized(ErnieViL(small(**SHALLOW, **changes))).train(), []
    return model, CompiledForward(model, said.append), said


def without_dropout():
    return compiled(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def as_it_is_written(forward, model, batch):
    model.forward = forward._eager
    try:
        return gradients(model, **batch)
    finally:
        model.forward = forward


def assert_equal(actual, expected, rtol=1e-4):
    assert actual.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=rtol, atol=1e-6 * float(largest), msg=name)


def test_one_piece_of_code_serves_all_lengths(traced):
    model, forward, said = without_dropout()
    lengths = st.lists(st.integers(2, 9), min_size=5, max_size=5)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(lengths, lengths, st.integers(2, 5), st.booleans())
    def check(text, image, samples, padded):
        batch = a_batch(text[:samples], image[:samples])
        batch["text_mask"] = batch["text_mask"] if padded else None
        assert_equal(gradients(model, **batch), as_it_is_written(forward, model, batch))

    check()
    assert forward.why_not is None
    assert forward.recompilations == 0
    assert forward.pieces == len(said) == 2


def test_without_gradients_or_samples_nothing_is_compiled(traced):
    model, forward, said = compiled()
    with torch.no_grad():
        model(**a_batch())
    gradients(model, **a_batch([], []))
    assert (forward.pieces, said) == (0, [])


def test_what_cannot_be_compiled_runs_as_it_is_written_and_says_why(monkeypatch):
    def no_compiler(graph, examples):
        raise RuntimeError("no compiler was found\nand much more")

    monkeypatch.setattr(compilation, "inductor", lambda: no_compiler)
    torch.compiler.reset()
    model, forward, said = without_dropout()
    batch = a_batch()
    assert_equal(gradients(model, **batch), as_it_is_written(forward, model, batch), rtol=0)
    gradients(model, **a_batch([4, 3], [2, 5]))
    assert forward.why_not == "RuntimeError: no compiler was found"
    assert said[1:] == [f"the encoder cannot be compiled and runs as it is written: {forward.why_not}"]


def test_layers_of_compiled_code_cannot_be_watched(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with pytest.raises(InputError, match="norms needs compile: false"):
        PretrainRecipe.load(tmp_path / "recipe.yaml", ["compile=true", "norms=true"])


def test_zero_3_trains_as_it_is_written(runs):
    printed = runs.start("zero-3", "compile=true", "zero_stage=3", "steps=1").succeed()
    assert "compile: the encoder runs as it is written, because ZeRO 3" in printed


# ---------------------------------------------------------------------------------------------- with the real compiler


@pytest.mark.slow
def test_it_does_not_matter_which_batch_came_first():
    """Neither to the code nor to the random numbers of dropout."""
    batches = [a_batch((9, 4, 7), (3, 6, 5)), a_batch((5, 5), (2, 3))]
    batches[1]["text_mask"] = None
    batches.append(a_batch([5], [4]))  # a single sample is broadcast, and so is another graph
    found = []
    for order in (batches, batches[::-1]):
        torch.compiler.reset()
        model, forward, _ = compiled()
        of_order = []
        for batch in order:
            torch.manual_seed(3)
            of_order.append(gradients(model, **batch))
        assert (forward.pieces, forward.recompilations) == (3, 0)
        found.append(of_order)
    for first, second in zip(found[0], found[1][::-1], strict=True):
        assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.slow
@needs_parity
@pytest.mark.parametrize("task", sorted(path.name.removeprefix("forward_") for path in PARITY.glob("forward_*")))
def test_compiled_code_computes_what_is_written(task):
    config = parity_config().model_copy(update={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    torch.compiler.reset()
    model, said = randomized(ErnieViL(config)).train(), []
    forward = CompiledForward(model, said.append)
    batch = parity_inputs(task)
    assert_equal(gradients(model, **batch), as_it_is_written(forward, model, batch))
    assert (forward.why_not, forward.recompilations) == (None, 0), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "options"), [(1, []), (2, ["zero_stage=1"]), (1, ["gradient_checkpointing=true", "workers=0"])]
)
def test_a_killed_compiled_run_resumes_to_the_same_weights(runs, ranks, options):
    """With another piece of code first than in the run before it, and while checkpoints are written."""
    options = ["compile=true", "checkpoint_every=1", *options]
    whole, killed = (f"compiled-{name}-{ranks}-{len(options)}" for name in ("whole", "killed"))
    printed = runs.start(whole, *options, ranks=ranks).succeed()
    assert "cannot be compiled" not in printed
    for step in (2, 9):
        runs.kill(killed, step, *options, "--resume", ranks=ranks)
    runs.start(killed, *options, "--resume", ranks=ranks).succeed()
    assert_undisturbed(runs, killed, ranks, whole=whole)
    assert [line["recompilations"] for line in runs.metrics(killed)] == [0] * STEPS
