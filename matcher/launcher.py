"""Training commands on several devices: DeepSpeed's launcher is started for them."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from parsers.command import InputError

PANEL = "Devices"

_options = typer.Typer(add_completion=False)


@_options.command()
def _add_options(
    devices: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=PANEL,
            help="Processes on each machine, one for each GPU. Without it one, or with --hostfile all that it lists.",
        ),
    ] = None,
    hostfile: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            rich_help_panel=PANEL,
            help="Machines to train on: a file with a line such as `worker-1 slots=8` for each.",
        ),
    ] = None,
) -> None:
    """Holds the options that every launched command gets."""


def make_launched(command: Any, module: str, arguments: list[str]) -> Any:
    """Returns a training command with the options ``--devices`` and ``--hostfile``.

    Args:
        command: of one process.
        module: that it is in, which is a script as well.
        arguments: that it will be called with.
    """
    train_here = command.callback
    added = [option for option in get_command(_options).params if option.name in ("devices", "hostfile")]

    def train(devices: int | None, hostfile: Path | None, **options: Any) -> None:
        if devices is None and hostfile is None:
            train_here(**options)
        else:
            import_module(module).read_inputs(**options)  # what is wrong is said once, and not by every process
            _launch(module, _without_options(arguments, "--devices", "--hostfile"), devices, hostfile)

    command.params = [*command.params, *added]
    command.callback = train
    return command


def _launch(module: str, arguments: list[str], devices: int | None, hostfile: Path | None) -> None:
    """Becomes DeepSpeed's launcher: signals and exit codes are then its own."""
    if hostfile is not None and shutil.which("pdsh") is None:
        raise InputError(
            f"--hostfile {hostfile}: DeepSpeed reaches other machines with pdsh, which is not installed; install it, "
            "or start the processes with srun or torchrun (docs/pretraining.md)"
        )
    if devices is not None and hostfile is None:
        _check_devices(devices)
    script = import_module(module).__file__
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--master_port", str(_find_free_port())]
    if hostfile is not None:
        launcher += ["--hostfile", str(hostfile)]
    if devices is not None:
        launcher += ["--num_gpus", str(devices)]
    sys.stdout.flush()
    os.execv(sys.executable, [*launcher, str(script), *arguments])


def _check_devices(devices: int) -> None:
    import torch  # late: it takes seconds

    there = torch.cuda.device_count()
    if 0 < there < devices:
        raise InputError(f"--devices {devices}: this machine has {there} GPUs; give at most --devices {there}")


def _find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def _without_options(arguments: list[str], *names: str) -> list[str]:
    """Returns the arguments without these options and their values."""
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in names:
            skip = True
        elif not argument.startswith(tuple(f"{name}=" for name in names)):
            kept.append(argument)
    return kept
