"""Commands answer at once: what takes seconds to import waits until a command needs it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.startup import commands

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "deepspeed", "spacy", "transformers", "ray", "pandas", "matplotlib")


def test_no_command_imports_what_takes_seconds_for_its_help():
    code = f"""
import importlib, sys
from typer.testing import CliRunner
for name in {commands()}:
    main = name if hasattr(importlib.import_module(name), "app") else name + ".__main__"
    CliRunner().invoke(importlib.import_module(main).app, ["--help"], catch_exceptions=False)
    found = [heavy for heavy in {HEAVY} if heavy in sys.modules]
    assert not found, f"python -m {{name}} --help imports {{', '.join(found)}}"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", ["pretrain/run.py", "finetune/run.py"])
def test_a_script_uses_the_packages_of_its_own_checkout(tmp_path, script):
    copy = tmp_path / script
    copy.parent.mkdir()
    shutil.copy(ROOT / script, copy)
    (copy.parent / "__init__.py").write_text("raise SystemExit('the package beside the script')")
    installed = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, copy, "--help"], env=installed, cwd=ROOT, capture_output=True, text=True)
    assert "the package beside the script" in done.stderr
