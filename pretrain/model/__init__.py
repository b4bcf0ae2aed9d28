"""The two-stream model. ``python -m pretrain.model`` prints what a size of it costs."""

from typing import TYPE_CHECKING

__all__ = ["CONFIG", "ENCODER", "WEIGHTS", "ErnieViL", "ErnieViLOutput", "initialize"]

if TYPE_CHECKING:
    from pretrain.model.encoder import CONFIG, ENCODER, WEIGHTS, ErnieViL, ErnieViLOutput, initialize
else:

    def __getattr__(name: str) -> object:
        # Imported when it is asked for: PyTorch takes seconds, and the command's --help should answer at once.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pretrain.model import encoder

        return getattr(encoder, name)
