"""Every command in README and docs is one that its own parser accepts."""

import ast
import doctest
import re
import shlex
import subprocess

import pytest

from benchmarks.startup import commands
from matcher.command import COMMANDS, load_command
from tests.blocks.pages import PAGES, ROOT, read_blocks

NAMES = {command.module.removesuffix(".__main__"): name for name, command in COMMANDS.items()}
STARTS = (
    r"ernie-vil (?P<name>[a-z][\w-]*)",
    r"python3? -m (?P<module>[\w.]+)",
    r"(?:deepspeed|torchrun|srun|python)\b(?: -[-\w]+(?:[ =][\w.:$]+)?)*? (?P<script>pretrain|finetune)/run\.py",
    r"(?:deepspeed|torchrun)\b(?: -[-\w]+(?:[ =][\w.:$]+)?)*? -m (?P<launched>[\w.]+)",
)


def blocks():
    """The code blocks of all pages, each with its place. Lines that go on are joined."""
    for page in PAGES:
        for block in read_blocks(page):
            if block.language in ("", "sh"):
                yield block.page, re.sub(r"\\\n\s*", "", block.text)


def recipes():
    """What the Makefile would run."""
    targets = [
        "demo",
        "ablation",
        "compositional-world",
        "compositional-tune",
        "compositional",
        "bench-full",
        "ROUNDS=1",
    ]
    for options in (targets, [*targets, "FROM=pixels"]):
        done = subprocess.run(["make", "--dry-run", *options], cwd=ROOT, capture_output=True, text=True)
        yield "Makefile", re.sub(r"\\\n\s*", "", done.stdout)


def command_lines():
    """The calls of our commands in code blocks and the Makefile: where, the command's name, and its arguments."""
    for page, text in [*blocks(), *recipes()]:
        for line in text.splitlines():
            for start in STARTS:
                found = re.search(rf"(?:^|[ ;&(/])(?:\w+=\S+ )*{start}(?P<rest>.*)", line)
                if found is None:
                    continue
                groups = found.groupdict()
                module = (
                    groups.get("module")
                    or groups.get("launched")
                    or (f"{groups['script']}.run" if groups.get("script") else None)
                )
                name = groups.get("name") or NAMES.get(module)
                if name is not None:
                    rest = re.split(" # | > | && | & ", groups["rest"])[0]
                    yield page, name, rest.removesuffix("'") if rest.count("'") % 2 else rest
                break


LINES = list(dict.fromkeys(command_lines()))


def test_the_pages_show_most_commands():
    assert {name.split()[0] for _, name, _ in LINES} >= {name.split()[0] for name in COMMANDS}
    assert len(LINES) > 60


def test_modules_that_are_named_are_commands():
    known = {*commands(), *(f"benchmarks.{path.stem}" for path in (ROOT / "benchmarks").glob("*"))}
    for page in PAGES:
        named = set(
            re.findall(
                r"python3? -m ((?:parsers|shards|pipeline|pretrain|finetune|matcher|benchmarks)\.[\w.]+)",
                page.read_text(),
            )
        )
        assert named <= known, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_can_be_read(page):
    for block in read_blocks(page):
        if block.language == "python":
            examples = doctest.DocTestParser().get_examples(block.text)
            for source in [example.source for example in examples] or [block.text]:
                ast.parse(source)


@pytest.mark.parametrize(("page", "name", "rest"), LINES, ids=lambda part: part[:60])
def test_a_command_is_one_that_its_parser_accepts(page, name, rest, tmp_path, monkeypatch):
    (tmp_path / "hosts").write_text("worker-1 slots=8\n")
    (tmp_path / "my-matcher").mkdir()
    (tmp_path / "data/shards").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(rest)
    if arguments and f"{name} {arguments[0]}" in COMMANDS:
        name, arguments = f"{name} {arguments[0]}", arguments[1:]
    command = load_command(name, arguments)
    if hasattr(command, "commands"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(name, [part for part in arguments if part not in ("…", "...")])
