"""Every command has the same exit codes, error messages, printed lines and progress display."""

import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from parsers import command

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "x[/b] \x1b]0;title\x07\x1b[2J \x9b31m \u202egnp.exe\u2066 \udcff\rerror: none\n:smile: [link=http://a]"
"""Text that no terminal should be sent: markup, escape sequences, turned text, bytes that are no UTF-8, false lines."""
HARMLESS = r"x[/b] \x1b]0;title\x07\x1b[2J \x9b31m \u202egnp.exe\u2066 \udcff\rerror: none"

PROGRAM = (
    f"HOSTILE = {HOSTILE!a}"
    + """
import signal, sys
import typer
from parsers.command import InputError, run

app = typer.Typer(add_completion=False)

@app.command()
def main(do: str = "nothing", count: int = 0) -> None:
    if do == "fail":
        raise InputError("data/[/]captions.csv:3: no caption; " + "write one, " * 40 + "or remove the line")
    if do == "break":
        raise RuntimeError("a bug")
    if do == "fill":
        raise OSError(28, "No space left on device", "runs/a/model.safetensors")
    if do == "attack":
        raise InputError(HOSTILE)
    if do == "wait":
        print("waiting", flush=True)
        signal.pause()

run(app)
"""
)


def run(*options):
    return subprocess.run([sys.executable, "-c", PROGRAM, *options], capture_output=True, text=True)


def test_a_command_that_goes_well_exits_with_0():
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_bad_input_is_said_in_one_line_without_a_traceback():
    done = run("--do", "fail")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: data/[/]captions.csv:3: no caption; write one")
    assert done.stderr.endswith("or remove the line\n")


def test_a_full_disk_is_one_line_with_the_path():
    done = run("--do", "fill")
    assert done.returncode == 1
    assert done.stderr == "error: [Errno 28] No space left on device: 'runs/a/model.safetensors'\n"


def test_a_bug_keeps_its_traceback():
    done = run("--do", "break")
    assert done.returncode == 1
    assert "RuntimeError" in done.stderr
    assert "error: a bug" not in done.stderr


@pytest.mark.parametrize("options", [("--no-such-option",), ("--count", "many"), ("an argument",)])
def test_wrong_usage_exits_with_2(options):
    done = run(*options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_exits_with_the_code_of_the_signal(number, code):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "--do", "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "waiting\n"  # the command runs: its signal handlers are in place
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors


@pytest.fixture
def plain(monkeypatch):
    """The console of a command whose output goes to a file."""
    console = command.SafeConsole(file=io.StringIO(), width=40)
    monkeypatch.setattr(command, "console", console)
    return console.file


@pytest.fixture
def terminal(monkeypatch):
    """The console of a command on a terminal."""
    console = command.SafeConsole(file=io.StringIO(), width=120, force_terminal=True)
    monkeypatch.setattr(command, "console", console)
    return console.file


def test_say_prints_a_line_as_it_is(plain):
    text = "[bold]data[/] " + "a long line " * 20 + "[0, 1]"
    command.say(text)
    assert plain.getvalue() == text + "\n"


@pytest.mark.parametrize("hostile", [HOSTILE, Text(HOSTILE)], ids=["text", "styled"])
def test_whatever_a_terminal_would_obey_is_spelled_out(terminal, hostile):
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(hostile)
    for thing in (hostile, table):
        command.console.print(thing, soft_wrap=True)
    if isinstance(hostile, str):
        command.say(hostile)
        with command.progress(hostile, 2, "step") as advance:
            advance(1)
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())  # what styles and the bar's cursor need
    assert not set(printed) & set("\x1b\x07\x9b\u202e\u2066\udcff")
    assert "\x1b]" not in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()
    assert r"\x1b[2J \x9b31m \u202egnp.exe\u2066 \udcff" in printed
    assert ":smile: [link=http://a]" in printed


def test_text_of_all_scripts_is_printed_as_it_is(plain):
    text = "ein Hündchen, 子犬, كلب, a family: \N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
    command.say(text)
    assert plain.getvalue() == text + "\n"


def test_an_error_with_foreign_text_is_one_harmless_line():
    done = run("--do", "attack")
    assert done.stderr == f"error: {HARMLESS} :smile: [link=http://a]\n"


def test_nothing_is_printed_past_the_safe_console():
    """`print` and other consoles would send foreign text to the terminal as it is; markup would be read in it."""
    forbidden = re.compile(
        r"(?<![\w.])print\(|typer\.echo|\bConsole\(|rich\.markup|markup=True|rich import print|\.from_markup"
    )
    folders = ("parsers", "shards", "pipeline", "pretrain", "finetune")
    found = {
        str(path.relative_to(ROOT)): line.strip()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if forbidden.search(line)
    }
    assert found == {
        "pretrain/training/watchdog.py": "print(",  # the rank and seconds alone, from a thread
    }


class Clock:
    """The time, as a test sets it."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(command, "time", clock)
    return clock


def test_without_a_terminal_progress_is_a_line_every_ten_seconds(plain, clock):
    with command.progress("reading", 3_000, "caption") as advance:
        advance(1_000)
        assert plain.getvalue() == ""
        clock.now += 10
        advance(500, rows=1_000)
        assert plain.getvalue() == "reading: 1,500 of 3,000 captions, 1,000 rows, 100/s\n"
        clock.now += 9
        advance(500, rows=1_000)
        clock.now += 1
        advance(0)
        assert plain.getvalue().splitlines()[1:] == ["reading: 2,000 of 3,000 captions, 2,000 rows, 100/s"]


def test_progress_needs_no_total(plain, clock):
    with command.progress("reading", None, "caption") as advance:
        clock.now += 10
        advance(7)
        clock.now += 10
        advance(0, rows=5)
    assert plain.getvalue() == "reading: 7 captions\nreading: 7 captions, 5 rows, 0.2/s\n"


def test_on_a_terminal_progress_is_a_bar(terminal):
    with command.progress("reading", 2, "caption") as advance:
        advance(1)
        advance(1, rows=5)
    shown = terminal.getvalue()
    assert "reading: 2 of 2 captions, 5 rows" in shown
    assert "━━━━" in shown
