"""Imports what most steps need. None of it may ask CUDA for anything, or no forked process could use CUDA."""

from __future__ import annotations

import importlib
from contextlib import suppress

for _name in ("torch", "torch._dynamo", "torchvision", "deepspeed", "pretrain.run", "pretrain.pretraining"):
    with suppress(Exception):  # a step that needs it will meet the error again, and tell
        importlib.import_module(_name)
