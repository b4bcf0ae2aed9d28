"""The device that a network computes on."""

from __future__ import annotations

from typing import Literal

import torch

from parsers.command import InputError


def choose_device(name: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """Returns a device. With ``auto`` it is the GPU if there is one, else the CPU.

    Raises:
        InputError: it is to be the GPU, and there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise InputError("the installed PyTorch sees no GPU; --device cpu does without")
    return torch.device("cuda" if there and name != "cpu" else "cpu")
