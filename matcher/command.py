"""One command for everything: ``ernie-vil COMMAND``. The commands are those of the other packages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from matcher.packages import DISTRIBUTION, check_packages

OWN = "Your own photos and captions"
CAPTIONS = "Captions become scene graphs"
SHARDS = "Pictures and graphs become shards"
PRETRAINING = "Shards become a model"
TASKS = "Downstream tasks"
TOYS = "The toy world"


@dataclass(frozen=True, slots=True)
class Command:
    """A command of another package."""

    module: str
    """what holds its ``app``; it is imported when the command is called"""
    group: str
    """the heading that it stands under"""
    summary: str
    """the first line of its own help"""
    launched: bool = False
    """whether DeepSpeed's launcher can start several processes of it"""


COMMANDS = {
    "match": Command(
        "matcher.train",
        OWN,
        "Train a matcher of your photos and captions, and report how well it finds what it has not seen.",
    ),
    "match score": Command(
        "matcher.score", OWN, "Score texts with a photo: log-odds that they belong together, the best first."
    ),
    "match search": Command(
        "matcher.search", OWN, "Find the photos of a folder that fit a text best: log-odds and path, the best first."
    ),
    "serve": Command(
        "matcher.serve.__main__",
        OWN,
        "Serve pages on which matchers are trained and tried without writing code, and an address that scores.",
    ),
    "parse": Command("pipeline.parse.__main__", CAPTIONS, "Parse captions into scene graphs (Parquet)."),
    "negatives": Command(
        "pipeline.negatives.__main__",
        CAPTIONS,
        "Make false captions of scene graphs: words swapped, replaced or added (Parquet).",
    ),
    "statistics": Command(
        "pipeline.statistics.__main__",
        CAPTIONS,
        "Count objects, attributes and relations of a corpus, and find what repeats (Parquet and PNG).",
    ),
    "spice": Command("parsers.spice.__main__", CAPTIONS, "Score captions: SPICE by kind of tuple, and Soft-SPICE."),
    "train-parser": Command("parsers.train.__main__", CAPTIONS, "Train the neural parser."),
    "evaluate-parser": Command("parsers.evaluate.__main__", CAPTIONS, "Score a parser against gold graphs."),
    "extract": Command(
        "pipeline.extract.__main__",
        SHARDS,
        "Find the regions of pictures and describe them with features and classes (Parquet).",
    ),
    "regions": Command(
        "pipeline.regions.__main__", SHARDS, "Convert detector region features into one table (Parquet)."
    ),
    "pack": Command("pipeline.pack.__main__", SHARDS, "Join scene graphs and regions into WebDataset shards."),
    "inspect": Command("shards.inspect.__main__", SHARDS, "Show what is in a set of shards, and verify it."),
    "edit": Command(
        "shards.edit.__main__", SHARDS, "Make new sets of shards out of others. The old sets stay as they are."
    ),
    "card": Command(
        "shards.card.__main__",
        SHARDS,
        "Write the card of a data set: a README.md with the head that a hub reads, counts and plots.",
    ),
    "push": Command(
        "shards.push.__main__", SHARDS, "Copy a data set to an object store, the hub or a folder, and verify it there."
    ),
    "plan": Command(
        "pretrain.plan", PRETRAINING, "Print the epochs, balance, memory and hours of a run on any number of devices."
    ),
    "pretrain": Command("pretrain.run", PRETRAINING, "Pretrain ERNIE-ViL on shards.", launched=True),
    "cloze": Command(
        "pretrain.cloze",
        PRETRAINING,
        "Hide one object, attribute or relation at a time and see whether the model names it.",
    ),
    "report": Command(
        "pretrain.report",
        PRETRAINING,
        "Compare a run with guessing, with itself when it is shown other images, and with a run on text alone.",
    ),
    "ablation": Command(
        "pretrain.ablation.__main__",
        PRETRAINING,
        "Compare pretraining recipes by the cloze test, each at its best learning rate, over several seeds.",
    ),
    "folds": Command(
        "pretrain.folds",
        PRETRAINING,
        "For each fold, train on the other folds and hide nodes of this one; compare own and other images.",
    ),
    "costs": Command(
        "pretrain.model.__main__", PRETRAINING, "Print the parameters, FLOPs and memory of each layer of a model."
    ),
    "import": Command("finetune.import_checkpoint", TASKS, "Import a released checkpoint, or export one."),
    "finetune": Command("finetune.run", TASKS, "Fine-tune a pretrained model on a downstream task.", launched=True),
    "predict": Command("finetune.predict", TASKS, "Predict a split with a fine-tuned model."),
    "evaluate": Command("finetune.evaluate", TASKS, "Score predictions as the official evaluator does."),
    "retrieve": Command(
        "finetune.retrieve",
        TASKS,
        "Score every caption of a split with every image, rank them, and compute the recalls.",
    ),
    "compose": Command(
        "finetune.compose.__main__",
        TASKS,
        "Score compositional suites: true captions against false ones, with their images and blind.",
    ),
    "compositional": Command(
        "finetune.compose.study",
        TASKS,
        "Compare pretraining recipes by a suite, the cloze test and the toy world's tasks, over several seeds.",
    ),
    "shortlist": Command(
        "finetune.shortlist", TASKS, "Train a cheap score for shortlists, and measure what they miss."
    ),
    "compare": Command(
        "finetune.comparison.__main__",
        TASKS,
        "Fine-tune the toy world's tasks from several models and compare their scores with chance.",
    ),
    "toyworld": Command(
        "pipeline.toyworld.__main__",
        TOYS,
        "Make pictures of toys with captions, regions and a vocabulary: data to try the whole chain on.",
    ),
    "train-detector": Command(
        "pipeline.toyworld.train_detector", TOYS, "Train a detector on pictures of the toy world."
    ),
    "recall": Command("pipeline.toyworld.recall", TOYS, "Count the toys that a table of regions covers and names."),
}


def load_command(name: str, arguments: list[str]) -> Any:
    """Imports a command and returns it.

    Args:
        name: one of `COMMANDS`.
        arguments: what it will be called with. The launcher passes them on.
    """
    from parsers.command import fit_help  # late: see main

    command = get_command(fit_help(import_module(COMMANDS[name].module).app))
    if COMMANDS[name].launched:
        from matcher.launcher import make_launched

        command = make_launched(command, COMMANDS[name].module, arguments)
    return command


class LazyCommands(TyperGroup):
    """The help shows the names and summaries of the commands. Only the one that is called is imported."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """See `typer.core.TyperGroup`."""
        name, command, rest = super().resolve_command(ctx, args)
        if rest and f"{name} {rest[0]}" in COMMANDS:  # of two words, as `match score`
            name, rest = f"{name} {rest[0]}", rest[1:]
        return name, command if name is None else load_command(name, list(rest)), rest


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyCommands, no_args_is_help=True, epilog="Example: ernie-vil parse captions.json --out data/graphs"
)


@app.callback()
def _show(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Scene-graph pretraining for vision and language. COMMAND --help explains a command."""


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.summary, rich_help_panel=_command.group)(lambda: None)


def main() -> None:
    """Runs the command that the command line names."""
    check_packages()
    from parsers.command import run  # late: only now it is known to be ours

    run(app)


if __name__ == "__main__":
    main()
