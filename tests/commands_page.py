"""Writes docs/commands.md from the commands themselves: ``python -m tests.commands_page``."""

from pathlib import Path

from matcher.command import COMMANDS, load_command

PAGE = Path(__file__).resolve().parents[1] / "docs/commands.md"

MEANINGS = {
    "--batch-size": "how many examples, pairs, captions or pictures are computed at once",
    "--class-names": "the names of the detector's classes",
    "--columns": "what the columns of a table of captions are called",
    "--coco-ids": "COCO's names of pictures are read as its numbers",
    "--config": "the recipe, by its name in `configs/` or as a YAML file",
    "--data": "the folder of a task's official files, for retrieval also a file of captions; `serve`: of its projects",
    "--detector": "the detector that finds the regions",
    "--device": "where a model computes: auto, cpu or cuda",
    "--devices": "how many devices, each with a process of its own",
    "--document": "the Markdown file that the results are written into",
    "--engine": "who makes the parts of a stage: processes of this machine, or a Ray cluster",
    "--feature-size": "how many numbers describe a region",
    "--format": "the format of the files that are read; auto recognises it",
    "--gold": "captions with the graphs that they should have",
    "--gold-regions": "folders of the regions of ground-truth boxes",
    "--allow-missing-images": "an image without regions is shown blank",
    "--held-out": "shards to evaluate on, which the model has not seen",
    "--hostfile": "the machines to train on",
    "--images": "a folder of pictures",
    "--learning-rate": "the learning rates to choose among",
    "--max-rejects": "the largest share of rows that may be rejected",
    "--min-visible": "nodes that are less likely to be seen in a picture are left out",
    "--model": "a model that is used: its folder, or the run that wrote it",
    "--most": "the most hidden nodes of each kind",
    "--num-images": "how many images",
    "--out": "the file or folder that is written",
    "--overwrite": "what is in `--out` is replaced",
    "--parser": "the parser of captions",
    "--partition-size": "how many inputs a part of the output holds",
    "--precision": "the type of the numbers that are computed with",
    "--preset": "the detector finds regions as a published set of features did",
    "--ray-address": "the Ray cluster that makes the parts",
    "--regions": "the regions of the pictures: what `extract` or `regions` wrote; `match` reads published ones, too",
    "--resume": "a run goes on from its latest checkpoint",
    "--seed": "the seed of all that is drawn",
    "--seeds": "how many runs, each with a seed of its own",
    "--set": "changes a key of the recipe",
    "--shards": "shards to train on",
    "--size": "the size of a model, by its name in `configs/model/` or as a JSON file",
    "--split": "the part of a data set that is read",
    "--start": "a model whose weights training starts from: its folder, or the run that wrote it",
    "--steps": "how many steps are trained",
    "--tokenizer": "the vocabulary: a `vocab.txt`, the folder of a model, or a model of the hub",
    "--top-k": "the k likeliest classes are kept",
    "--weights": "the detector's weights: a file, or a name that it knows",
    "--without-synonyms": "only equal words match",
    "--workers": "how many processes share the work",
    "--world": "a toy world, with what was made of its scenes",
}
"""The one meaning of every option that several commands have."""


def list_commands():
    """Yields all commands with the words that call them; the help of a group with its commands."""
    for name in COMMANDS:
        command = load_command(name, [])
        inside = getattr(command, "commands", None)
        yield from [(name, command)] if inside is None else [(f"{name} {word}", part) for word, part in inside.items()]


def list_options(command):
    """The options of a command that people give, by name."""
    return {
        option.opts[0]: option
        for option in command.params
        if option.param_type_name == "option" and not option.hidden and option.opts[0] != "--help"
    }


def kind_of(option):
    """What is given to an option: nothing, a number, one of some words, or a text: most often a path."""
    if option.is_flag:
        return "switch"
    shown = str(option.type_descriptor.annotation)
    if "Literal" in shown:
        return "choice"
    return "number" if "int" in shown or "float" in shown else "text"


def write_page():
    """The text of docs/commands.md."""
    commands = dict(list_commands())
    users = {}
    for name, command in commands.items():
        for option in list_options(command):
            users.setdefault(option, []).append(name)
    lines = [
        "# All commands",
        "",
        "`ernie-vil COMMAND` starts a command, and so does `python -m MODULE`. This page is made of the commands' own "
        "help: `python -m tests.commands_page`.",
        "",
        "## One word, one meaning",
        "",
        "An option means the same in every command that has it. A switch has no opposite. What has a * must be given. "
        "What has a … may be repeated.",
        "",
        "| option | what it means | commands |",
        "|---|---|---|",
        *(f"| `{option}` | {MEANINGS[option]} | {', '.join(users[option])} |" for option in sorted(MEANINGS)),
    ]
    group = None
    for name, command in commands.items():
        entry = COMMANDS.get(name) or COMMANDS[name.split()[0]]
        if entry.group != group:
            group = entry.group
            lines += ["", f"## {group}"]
        module = entry.module.removesuffix(".__main__")
        calls = module if name in COMMANDS else " ".join([module, *name.split()[1:]])
        lines += [
            "",
            f"### ernie-vil {name}",
            "",
            " ".join(command.help.split()),
            "",
            f"Module: `python -m {calls}`.",
            "",
        ]
        lines += ["```", command.epilog.removeprefix("Example: "), "```", ""]
        arguments = [part for part in command.params if part.param_type_name == "argument"]
        rows = [(part.metavar or part.name.upper(), part) for part in arguments] + list(list_options(command).items())
        for label, part in rows:
            mark = ("*" if part.required else "") + (" …" if part.multiple else "")
            lines.append(f"- `{label}`{mark}: {' '.join((part.help or '').split())}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(write_page())
