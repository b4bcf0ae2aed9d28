"""Stands for ``ernie-vil``, ``python`` and ``deepspeed`` while blocks are run: the same commands, but quick ones.

Options are added to those of the block; of two values of an option the last one holds.
"""

import runpy
import shutil
import sys
from pathlib import Path

from matcher.command import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SHORT = (
    "--set steps=2 --set epochs=null --set batch_size=4 --set accumulation=1 --set workers=0 --set precision=fp32 "
    "--set checkpoint_every=2 --set log_every=1 --set evaluate_every=0"
)
TOY = f"--set model={ROOT}/configs/model/toy.json --set max_text=32"
QUICKER = {
    "toyworld": "--num-images 40 --workers 1",
    "match": f"--detector toyworld --weights detector.safetensors {SHORT}",
    "parse": "--workers 1",
    "regions": "--workers 1",
    "extract": "--workers 1",
    "pack": "--workers 1",
    "statistics": "--workers 1",
    "pretrain": f"{SHORT} {TOY}",
    "folds": f"--folds 2 {SHORT} {TOY}",
    "cloze": "--most 2",
    "finetune": f"{SHORT} --set task.max_text=32",
    "shortlist": "--steps 2",
    "plan": f"--batches 2 {TOY}",
}
NAMES = {command.module.removesuffix(".__main__"): name for name, command in COMMANDS.items()}


def run(program: str, arguments: list[str]) -> None:
    """Runs ``program`` with the arguments of a block and those that make it quick."""
    if program == "ernie-vil":
        module, name = "matcher.command", arguments[0]
        if " ".join(arguments[:2]) in COMMANDS:
            name = " ".join(arguments[:2])
    elif arguments[0] == "-m":
        module, arguments = arguments[1], arguments[2:]
        name = NAMES.get(module, "")
    else:  # a script of the checkout, which is another command's module
        module, arguments = arguments[0].removesuffix(".py").replace("/", "."), arguments[1:]
        name = NAMES[module]
    if name == "match":
        _shorten_pretraining()
    sys.argv = [program, *arguments, *QUICKER.get(name, "").split()]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _shorten_pretraining() -> None:
    import matcher.training
    from pretrain.recipe import PretrainRecipe

    load = PretrainRecipe.load
    settings = [word for word in SHORT.split() if word != "--set"]
    matcher.training.PretrainRecipe = type("Short", (), {"load": staticmethod(lambda path, _: load(path, settings))})


def install(folder: Path) -> None:
    """Writes the programs into a folder for ``PATH``."""
    folder.mkdir(parents=True)
    for program in ("ernie-vil", "python", "python3", "deepspeed"):
        path = folder / program
        path.write_text(
            f"#!{sys.executable}\nfrom tests.blocks.command import run\nimport sys\n"
            f"run({program.rstrip('3')!r}, sys.argv[1:])\n"
        )
        path.chmod(0o755)


if shutil.which("bash") is None:
    raise ImportError("the blocks are for bash, which is not installed")
