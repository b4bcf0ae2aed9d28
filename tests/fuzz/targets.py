"""What reads the seeds: command lines, and readers that a command reaches only after seconds."""

import importlib
import importlib.util
import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import typer

from parsers.command import InputError

# ------------------------------------------------------------------------------------------------------- command lines

QUICK = """
pipeline.regions features/original.tsv --workers 1 --out out
pipeline.regions features/lxmert.tsv --workers 1 --out out
pipeline.regions released/vqa.tsv --workers 1 --out out
pipeline.regions released/refer.tsv --workers 1 --out out
pipeline.regions features/npz --class-names features/names.txt --workers 1 --out out
pipeline.regions features/npy --workers 1 --out out
pipeline.regions features/base64/data.mdb --workers 1 --out out
pipeline.regions features/arrays --format vilbert-lmdb --workers 1 --out out
pipeline.regions features/lists.parquet --workers 1 --out out
pipeline.regions features/bytes.parquet --workers 1 --out out
pipeline.regions regions --workers 1 --out out
pipeline.regions features/lxmert.tsv --workers 1 --out regions --overwrite
pipeline.pack --graphs graphs --regions regions --tokenizer world/vocab.txt --workers 1 --out out
pipeline.pack --graphs graphs --regions regions --tokenizer world/vocab.txt --exclude-ids lists/ids.txt \
--id-map lists/map.parquet --held-out-share 0.3 --shard-size 4 --top-k 2 --workers 1 --out out
pipeline.toyworld.recall regions --scenes world/scenes.jsonl
shards.inspect summary shards/train
shards.inspect head shards/train -n 3
shards.inspect show shards/train 3
shards.inspect verify shards/train --workers 1
shards.inspect verify shards/train --repair-index --workers 1
shards.inspect html shards/train --images world/images --regions regions -n 5 --out out.html
shards.card shards --overwrite
shards.push shards out
shards.edit remove shards/train --image-ids lists/ids.txt --caption-ids lists/captions.jsonl --out out
shards.edit append shards/train shards/val --out out
shards.edit merge shards/train shards/val --out out
pretrain.plan --config recipes/pretrain.yaml --shards shards/train --from-run run --batches 3 --out out.json
pretrain.plan --config recipes/pretrain.yaml --shards shards/train --shards shards/val --batches 3
pretrain.model --size recipes/model.json
finetune.evaluate vqa --predictions predictions/vqa.json --data world/tasks/vqa --split val
finetune.evaluate vcr --predictions predictions/vcr.json --data world/tasks/vcr --split val
finetune.evaluate retrieval --predictions predictions/retrieval.json --data world/tasks/flickr30k --split val
finetune.evaluate refcoco_plus --predictions predictions/refcoco_plus.json --data world/tasks/refcoco_plus \
--split testA
finetune.predict vqa --model models/vqa --data world/tasks/vqa --split val --regions regions --out out.json
finetune.predict vcr --model models/vcr --data world/tasks/vcr --split val --regions regions \
--gold-regions gold --out out.json
finetune.predict retrieval --model models/retrieval --data world/tasks/flickr30k --split val \
--regions regions --out out.json
finetune.predict refcoco_plus --model models/refcoco_plus --data world/tasks/refcoco_plus --split testA \
--regions regions --out out.json
finetune.predict vqa --model models/vqa --data released --split vqa.tsv --out out.json
finetune.predict refcoco_plus --model models/refcoco_plus --data released --split refer.tsv --out out.json
finetune.retrieve --model models/retrieval --data world/tasks/flickr30k --split val --regions regions \
--shortlist 2 --cheap-score shortlist.safetensors --out out
finetune.compose suites --model models/retrieval --regions regions --skip-missing-images --out out
matcher.score models/retrieval 3 cube ball --regions regions
matcher.search models/retrieval cube world/images --regions regions
finetune.import_checkpoint models/vcr --to-paddle --out out
finetune.import_checkpoint paddle --size recipes/model.json --tokenizer world/vocab.txt --out out
finetune.import_checkpoint combined --size recipes/model.json --out out
""".replace("\\\n", "")
"""Command lines that take a fraction of a second once everything is imported."""

SLOW = """
shards.inspect diff shards/train shards/val
pipeline.parse captions/coco.json captions/lines.jsonl --parser sng --out out
pipeline.parse captions/web.tar captions/table.parquet --parser dependency --out out
pipeline.parse captions/table.csv captions/table.tsv captions/urls.tsv --out out
pipeline.parse captions/karpathy.json captions/vcr.jsonl --parser dependency --max-rejects 1 --out out
pipeline.extract pictures pictures.tar --detector toyworld --weights detector.safetensors --preview 2 --out out
pipeline.extract list.json --images pictures --boxes boxes.json --detector toyworld \
--weights detector.safetensors --out out
pipeline.negatives graphs --workers 1 --out out
pipeline.statistics graphs --out out
pipeline.statistics graphs --benchmark-captions captions/karpathy.json --workers 1 --out out
pipeline.toyworld --num-images 2 --num-captions 1 --out out
pipeline.toyworld.train_detector --steps 2 --batch-size 2 --out out
parsers.evaluate --gold captions/gold.csv --parser sng --without-synonyms --out out.json
parsers.spice captions/coco.json captions/lines.jsonl --parser sng --without-synonyms --out out.json
parsers.train --gold captions/gold.jsonl --dev-gold captions/gold.csv --unlabelled lists/ids.txt --width 8 --out out
pretrain.cloze --model run --held-out shards/val --shards shards/train --out out
pretrain.report --model run --config recipes/pretrain.yaml --held-out shards/val --images world/images --out out
pretrain.run --config recipes/pretrain.yaml --shards shards/train --held-out shards/val --start run --out out
pretrain.run --config recipes/pretrain.yaml --shards shards/train --start-text models/bert --out out
pretrain.run --config recipes/pretrain.yaml --shards shards/train --held-out shards/val --out run --resume --set steps=3
finetune.run vqa --config recipes/vqa.yaml --start run --data world/tasks/vqa --regions regions --out out
finetune.run retrieval --config recipes/retrieval.yaml --start models/retrieval --data world/tasks/flickr30k \
--regions regions --out out
finetune.shortlist --model models/retrieval --data world/tasks/flickr30k --regions regions --steps 2 \
--hard-negatives out.json --out out
finetune.comparison --world world --regions regions --gold-regions gold --start pretrained=run/model --task vqa \
--out comparison
pretrain.ablation recipes/pretrain.yaml --shards shards/train --held-out shards/val --learning-rate 0.001 --seeds 1 \
--most 2 --workers 1 --out out
matcher.train world/images world/captions.json --start models/retrieval --regions regions --set steps=2 --out out
pretrain.folds shards/train --config recipes/pretrain.yaml --folds 2 --out out
""".replace("\\\n", "")
"""Command lines that take seconds."""


def call(line: str) -> int:
    """Runs a command line in this process; returns its exit code.

    Raises:
        Exception: whatever the command raises.
    """
    module, *arguments = shlex.split(line)
    return typer.main.get_command(app_of(module)).main(arguments, prog_name=module, standalone_mode=False) or 0


def app_of(module: str) -> typer.Typer:
    """The command line of a module that is a command."""
    package = importlib.util.find_spec(module).submodule_search_locations is not None
    return importlib.import_module(f"{module}.__main__" if package else module).app


# ------------------------------------------------------------------------------------------------------------- readers


def read_captions(name: str, format: str) -> int:
    """As `pipeline.parse` reads them; returns how many were rejected."""
    from pipeline.files import expand
    from pipeline.parse.recognition import recognise_captions
    from pipeline.parse.stage import ParseStage

    (path,) = expand([name])
    with suppress(InputError):
        recognise_captions(path)
    stage = ParseStage(((path, format),), "sng", "1", 100)
    stage.fingerprint()
    return sum(len(partition.rejects) for partition in stage.partitions())


def read_gold(name: str) -> int:
    """Captions with their graphs, as `parsers.evaluate` reads them."""
    from parsers.gold import read_gold

    try:
        read_gold(Path(name))
    except (OSError, ValueError) as error:  # as the command takes them
        raise InputError(str(error)) from error
    return 0


def read_references(name: str) -> int:
    """The captions of each image, as `parsers.spice` reads them."""
    from parsers.spice.files import read_captions

    read_captions(Path(name))
    return 0


def read_pictures(name: str, *options: str) -> int:
    """As `pipeline.extract` reads them."""
    from pipeline.execution.parts import Reject
    from pipeline.extract import images
    from pipeline.files import expand

    root = Path(options[0]) if options else None
    found, _ = images.recognise_pictures(*expand([name]), "auto", root)
    found.count(), found.bytes(), found.fingerprint()
    pictures = [source if isinstance(source, Reject) else images.load_picture(source) for source in found.sources()]
    return sum(isinstance(picture, Reject) for picture in pictures)


def read_boxes(name: str) -> int:
    """Boxes that are given for pictures."""
    from pipeline.extract.given_boxes import read_boxes
    from pipeline.files import expand

    return sum(not len(boxes) for boxes in read_boxes(*expand([name])).values())


def read_graphs(name: str) -> int:
    """Graphs, as `pipeline.statistics` counts them."""
    from pipeline.execution.parts import Part
    from pipeline.statistics.stage import StatisticsStage

    stage = StatisticsStage((Path(name),))
    for number, part in enumerate(stage.partitions()):
        stage.worker()(part, Part(Path("out"), number))
    return 0


def read_batches(shards: str, recipe: str) -> int:
    """Batches of a training run."""
    from pretrain.data.batches import Collator
    from pretrain.data.order import BatchPlan
    from pretrain.recipe import PretrainRecipe, model_config
    from shards.joined import open_sets

    wanted, found = PretrainRecipe.load(Path(recipe), []), open_sets([shards])
    model_config(wanted, found)
    plan, collator = BatchPlan.of(wanted, found), Collator.of(wanted, found, "cpu")
    for step in range(4):
        collator(plan.batch(step))
    return 0


def read_model(name: str, vocabulary: str) -> int:
    """A pretrained model, to be scored and to start from."""
    from pretrain.model.folder import load_model, model_folder, start_from
    from shards.vocabulary import read_vocabulary

    model = load_model(model_folder(Path(name)))
    start_from(model, read_vocabulary(Path(vocabulary)), Path(name))
    return 0


def read_retriever(name: str) -> int:
    """A fine-tuned model as users' programs load it."""
    from finetune.retriever import ErnieVilForRetrieval

    ErnieVilForRetrieval.from_pretrained(name)
    return 0


def read_bert(name: str, config: str) -> int:
    """The weights of a BERT."""
    from pretrain.model.config import ModelConfig
    from pretrain.model.encoder import ErnieViL
    from pretrain.model.text_weights import init_text

    init_text(ErnieViL(ModelConfig.load(config)), name)
    return 0


def read_recipe(name: str, task: str) -> int:
    """A recipe of fine-tuning, and the files that it names."""
    from finetune.tasks import import_task
    from finetune.training.recipe import FineTuneRecipe

    kind = import_task(task)
    kind(FineTuneRecipe.for_task(kind.settings_type).load(Path(name), ["seed=1", "optimizer.learning_rate=1e-3"]).task)
    return 0


def read_checkpoints(name: str) -> int:
    """The checkpoints of a run, before one is loaded."""
    import torch

    from pretrain.training.checkpoints import Checkpoints
    from pretrain.training.distributed import DistributedContext

    folder, fingerprint = Path(name), None
    for path in folder.glob("*/checkpoint.json"):  # what the run says it was is taken for true
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            fingerprint = json.loads(path.read_bytes())["identity"]
    fingerprint = fingerprint if isinstance(fingerprint, dict) else {}
    checkpoints = Checkpoints(
        folder, keep=2, fingerprint=fingerprint, world=DistributedContext(0, 1, torch.device("cpu"))
    )
    if checkpoints.exist():
        checkpoints.find()
        checkpoints.last(2)
    return 0


def read_upload(name: str) -> int:
    """What is put into a project of `matcher.serve`; returns how many rows and files were not understood."""
    from matcher.serve.projects.store import Contents
    from matcher.serve.worker.understanding import RECEIVED, UNDERSTOOD, UPLOAD, Understood, Upload, understand

    paths = [path for path in (Path(name), *sorted(Path(name).rglob("*"))) if path.is_file()]
    incoming = Path("incoming")
    (incoming / RECEIVED).mkdir(parents=True)
    for number, path in enumerate(paths):
        path.rename(incoming / RECEIVED / str(number))
    Upload(files=tuple((str(path), n) for n, path in enumerate(paths)), columns={}).save(incoming / UPLOAD)
    understand(incoming, Contents())
    return len(Understood.load(incoming / UNDERSTOOD).faults)


def read_project(name: str) -> int:
    """The archive of a project, as `matcher.serve` imports it."""
    from matcher.serve.projects.archives import import_project
    from matcher.serve.projects.store import Store

    project = import_project(Path(name), Store(Path("store")))
    return sum(len(version.read_figures()) for version in project.versions())


READERS: dict[str, tuple[Callable[..., int], tuple[str, ...]]] = {
    "read_captions": (
        read_captions,
        (
            "captions/coco.json coco",
            "captions/karpathy.json karpathy",
            "captions/urls.tsv conceptual-captions",
            "captions/lines.jsonl jsonl",
            "captions/table.csv csv",
            "captions/table.tsv tsv",
            "captions/table.parquet parquet",
            "captions/web.tar webdataset",
            "captions/vcr.jsonl vcr",
        ),
    ),
    "read_gold": (read_gold, ("captions/gold.jsonl", "captions/gold.csv")),
    "read_references": (read_references, ("captions/coco.json", "captions/lines.jsonl")),
    "read_pictures": (read_pictures, ("pictures", "pictures.tar", "list.json pictures")),
    "read_boxes": (read_boxes, ("boxes.json", "list.json", "regions", "world/tasks/vcr/metadata")),
    "read_graphs": (read_graphs, ("graphs",)),
    "read_batches": (read_batches, ("shards/train recipes/pretrain.yaml", "shards/val recipes/pretrain.yaml")),
    "read_model": (read_model, ("run/model world/vocab.txt",)),
    "read_retriever": (read_retriever, ("models/retrieval",)),
    "read_bert": (read_bert, ("models/bert recipes/model.json", "models/bert-pickled recipes/model.json")),
    "read_recipe": (
        read_recipe,
        tuple(f"recipes/{task}.yaml {task}" for task in ("vqa", "vcr", "retrieval", "refcoco_plus")),
    ),
    "read_checkpoints": (read_checkpoints, ("run/checkpoints",)),
    "read_upload": (read_upload, ("upload/all.zip", "pictures", "features/npz", "captions/table.parquet", "gold")),
    "read_project": (read_project, ("upload/project.zip",)),
}
"""Readers, and what each is called with: a file or folder of the seeds, and more."""


# ------------------------------------------------------------------------------------------------------------- targets


@dataclass(frozen=True)
class Target:
    """Something that reads seeds."""

    kind: str
    """what it is counted under"""
    line: str
    """the reader or the command, and its arguments"""

    def inputs(self, seeds: Path) -> list[str]:
        """The files and folders of the seeds that the line names."""
        return list(dict.fromkeys(word for word in shlex.split(self.line)[1:] if (seeds / word).exists()))

    def run(self) -> int:
        """Reads in this process and the working directory; returns the number of rejected rows."""
        name, *arguments = shlex.split(self.line)
        if name in READERS:
            return READERS[name][0](*arguments)
        call(self.line)
        return rejected(Path("out"))


def rejected(out: Path) -> int:
    """The rejected rows that the report of a stage counts."""
    with suppress(OSError, ValueError, KeyError):
        return sum(json.loads((out / "report.json").read_bytes())["rejects"].values())
    return 0


def targets(lines: str) -> Iterator[Target]:
    """Those of some command lines."""
    for line in filter(None, lines.split("\n")):
        words = line.split()
        has_more = words[0] in ("shards.inspect", "shards.edit", "finetune.evaluate", "finetune.predict")
        yield Target(" ".join(words[: 1 + has_more]), line)


def readers() -> Iterator[Target]:
    """Those of the readers."""
    for name, (_, arguments) in READERS.items():
        for argument in arguments:
            yield Target(name, f"{name} {argument}")


IN_PROCESS = (*readers(), *targets(QUICK))
WHOLE = (*targets(SLOW), *targets(QUICK))
