"""Steps that end in every way that a step can end."""

import os
import subprocess
import sys
import threading

from benchmarks.gpu.steps import Skip


def finds(setting, findings, number):
    findings.figures["number"] = number
    findings.bound("error", 1e-6, 1e-4)
    findings.aim("share", 0.5, least=0.45)


def misses_its_aim(setting, findings):
    findings.aim("share", 0.25, least=0.45)


def misses_its_bound(setting, findings):
    findings.bound("error", float("nan"), 1e-4)
    findings.figures["seen later"] = 1


def refuses(setting, findings):
    findings.figures["seen before"] = 1
    assert setting.device == "none", "this device is none"


def breaks(setting, findings):
    raise KeyError("loss")


def skips(setting, findings):
    raise Skip("not on a CPU")


def needs(setting, findings):
    import no_such_package.part  # noqa: F401


def dies(setting, findings):
    os._exit(7)


def hangs(setting, findings):
    """With a process of its own, whose number it leaves behind."""
    child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    (setting.scratch / "child").write_text(str(child.pid))
    threading.Event().wait()
