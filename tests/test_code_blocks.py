"""The code blocks of README and docs work as they stand there. `tests.blocks.pages` says how they are marked."""

import os
import subprocess
import sys

import pytest

from tests.blocks.given import Kitchen
from tests.blocks.pages import MARKS, PAGES, ROOT, RUN, SHOWN, read_blocks

GIVEN = {
    "README.md": "photos captions.csv detector.safetensors captions_val2017.json features vocab.txt",
    "docs/batch-plan.md": "data/shards/train",
    "docs/cloze.md": "runs/a data/shards/train data/shards/val data/photos/shards/train",
    "docs/compositional.md": "runs/demo",
    "docs/model.md": "models/base",
    "docs/negatives.md": "captions_val2017.json data/regions vocab.txt",
    "docs/own-data.md": "photos photo.jpg captions.csv detector.safetensors",
    "docs/parsers.md": "mine.jsonl mine_dev.jsonl captions.json parsers/neural/model",
    "docs/planning.md": "data/shards/train data/cc/train data/coco/train",
    "docs/pretraining.md": "data/cc3m/shards/train data/sbu/shards/train",
    "docs/publishing.md": "data/shards",
    "docs/released.md": "ERNIE-ViL-base/params ernie_vil_config.base.json vocab.txt",
    "docs/retrieval.md": "data/regions models/flickr30k runs/flickr30k models/base data/flickr30k",
    "docs/shards.md": "data/shards/train data/new/train data/cc/train data/coco/train gone.txt gone.jsonl",
    "docs/spice.md": "captions_val2017.json results.json",
    "docs/task-pretraining.md": "train.jsonl VCR_resnet101_faster_rcnn_genome.lmdb ids.parquet runs/base",
    "docs/tasks.md": "models/base data/vqa data/regions",
}
"""What each page starts from: the names that it gives its files."""
BLOCKS = {page.relative_to(ROOT).as_posix(): read_blocks(page) for page in PAGES}
ELSEWHERE = {
    "docs/commands.md": "the help of the commands, which tests/test_docs.py has their parsers read",
    "docs/index.md": "lists for Sphinx, which tests/test_site.py has it read",
    "docs/reference.md": "the same",
    "docs/tasks.md": "tests/finetune/test_docs.py trains with the task",
    "docs/tour.md": "tests/test_tour.py walks it",
}


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    return Kitchen(tmp_path_factory.mktemp("kitchen") / "kitchen")


def run_page(kitchen, folder, page, blocks):
    """Runs blocks of a page in their order."""
    text = "".join(block.text for block in blocks)
    for name in GIVEN.get(page, "").split():
        if all(block.quick for block in blocks) and name.split("/")[0] not in text:
            continue  # it is of the blocks that are left out
        kitchen.give(name, folder)
    for block in blocks:
        if block.language == "sh":
            kitchen.run(block.text, folder)
        else:
            run_python(block, folder)


def run_python(block, folder):
    """Runs a program, or an example in which every line is followed by what it prints."""
    if ">>>" in block.text:
        program = (
            "import doctest, sys\n"
            "test = doctest.DocTestParser().get_doctest(sys.stdin.read(), {}, sys.argv[1], None, 0)\n"
            "sys.exit(doctest.DocTestRunner().run(test).failed)"
        )
    else:
        program = "import sys\nexec(compile(sys.stdin.read(), sys.argv[1], 'exec'))"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, f"{block.page}:{block.line}"], cwd=folder, env=environment, text=True,
        input=block.text, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.page}:{block.line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", BLOCKS)
def test_every_block_says_what_it_is(page):
    for block in BLOCKS[page]:
        marks = MARKS if block.language in RUN else ()
        known = block.language in (*RUN, *SHOWN) and set(block.marks) <= {*marks}
        assert known or page in ELSEWHERE, f"{page}:{block.line}: {block.language} {block.marks}"


def test_most_blocks_are_run():
    runs = [block for blocks in BLOCKS.values() for block in blocks if block.runs]
    marked = [block for blocks in BLOCKS.values() for block in blocks if block.marks]
    assert len(runs) > len(marked) > 0
    assert sum(block.quick for block in runs) > 5


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if any(block.quick for block in blocks)])
def test_blocks_without_a_model_work(kitchen, tmp_path, page):
    run_page(kitchen, tmp_path, page, [block for block in BLOCKS[page] if block.quick])


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page, blocks in BLOCKS.items() if any(block.runs and not block.quick for block in blocks)]
)
def test_all_blocks_of_a_page_work_one_after_the_other(kitchen, tmp_path, page):
    run_page(kitchen, tmp_path, page, [block for block in BLOCKS[page] if block.runs])
