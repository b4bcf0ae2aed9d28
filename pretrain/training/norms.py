"""Norms of gradients and activations, layer by layer: they help where a run does not learn, or diverges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from deepspeed.utils import safe_get_full_grad
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Norms:
    """Measures the layers of a model.

    A layer is an element of a list of modules. Other parameters are grouped by the first two parts of their names.
    """

    def __init__(self, model: nn.Module) -> None:
        """Takes the model that DeepSpeed trains."""
        self._model = model
        self._layers = {
            f"{name}.{number}": layer
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList)
            for number, layer in module.named_children()
        }

    @contextmanager
    def watch_activations(self, *, watch: bool) -> Iterator[dict[str, Tensor]]:
        """Records the root mean square of each layer's last output inside the context.

        The context yields float32 [] by ``activation/LAYER``. Where a layer has several outputs, their number follows.
        Padding counts as well.

        Args:
            watch: whether to record anything.
        """
        found: dict[str, Tensor] = {}

        def hook(name: str, layer: nn.Module) -> RemovableHandle:
            def leave(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
                several = isinstance(output, tuple)
                for number, states in enumerate(output if isinstance(output, tuple) else (output,)):
                    key = f"activation/{name}.{number}" if several else f"activation/{name}"
                    found[key] = states.detach().float().square().mean().sqrt()

            return layer.register_forward_hook(leave)

        with ExitStack() as hooks:
            for name, layer in self._layers.items() if watch else ():
                hooks.callback(hook(name, layer).remove)
            yield found

    def measure_gradients(self) -> dict[str, float]:
        """Returns the norm of the gradient of each layer, by ``gradient/LAYER``, before it is clipped.

        All ranks call it, after the backward pass and before the optimiser's step.
        """
        squares: defaultdict[str, float] = defaultdict(float)
        for name, parameter in self._model.named_parameters():
            gradient = safe_get_full_grad(parameter)
            if gradient is not None:
                squares[f"gradient/{self._layer_of(name)}"] += float(gradient.float().square().sum())
        return {name: square**0.5 for name, square in squares.items()}

    def _layer_of(self, parameter: str) -> str:
        for name in self._layers:
            if parameter.startswith(f"{name}."):
                return name
        return ".".join(parameter.split(".")[:2])
