"""The two-stream model. ``python -m pretrain.model`` prints what a size of it costs."""

from pretrain.model.encoder import (
    CONFIG,
    ENCODER,
    WEIGHTS,
    ErnieViL,
    ErnieViLOutput,
    initialize,
)

__all__ = ["CONFIG", "ENCODER", "WEIGHTS", "ErnieViL", "ErnieViLOutput", "initialize"]
