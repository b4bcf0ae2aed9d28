"""Compositional suites: ``python -m finetune.compose SUITE... --model DIR --regions DIR --out DIR``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from finetune.options import CocoIdsOption, RegionsOption
from parsers.command import InputError, console, pluralize, run, say
from pretrain.options import DeviceOption, ModelOption

SCORES, PAIRS = "scores.json", "pairs.jsonl"

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil compose data/sugar-crepe --model runs/a --regions data/regions --out runs/a/compose"
)
def main(
    suites: Annotated[
        list[Path],
        typer.Argument(
            metavar="SUITE...", help="Files or folders of SugarCrepe, ARO or VALSE, or pairs of your own (CSV, JSONL)."
        ),
    ],
    model: ModelOption,
    out: Annotated[Path, typer.Option(help="Folder for the accuracies and for the scores of all pairs.")],
    regions: RegionsOption = None,
    skip_missing_images: Annotated[
        bool, typer.Option("--skip-missing-images", help="Leave out the pairs whose images have no regions.")
    ] = False,
    coco_ids: CocoIdsOption = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts that are scored at once.")] = 64,
    device: DeviceOption = "auto",
) -> None:
    """Score compositional suites: true captions against false ones, with their images and blind."""
    if not regions:
        raise typer.BadParameter("name at least one folder of regions", param_hint="--regions")
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    import orjson
    import torch

    from finetune.compose.report import count_right, make_record, make_table, say_what_is_solved_blind
    from finetune.compose.scoring import load_judge, open_suite, score_pairs
    from finetune.inputs import RegionsByCocoName
    from parsers.device import choose_device
    from shards.regions.store import RegionStore
    from shards.stage_folder import hash_stage
    from shards.storage.files import write_atomic, write_record

    store, where = RegionStore(regions), choose_device(device)
    images = RegionsByCocoName(store) if coco_ids else store
    opened = [open_suite(path, images, skip_missing_images=skip_missing_images) for path in suites]
    judge = load_judge(model, where)
    if judge.feature_size != images.feature_size:
        raise InputError(
            f"the regions have features of size {images.feature_size}, but {model} takes {judge.feature_size}; "
            "use regions of the detector that it was pretrained with"
        )
    records, lines = [], list[bytes]()
    for path, suite in zip(suites, opened, strict=True):
        scores = score_pairs(judge, suite, images, batch_size=batch_size, device=where)
        result = count_right(suite.pairs, scores)
        alike = sum(len({tuple(judge.encode(text).token_ids) for text in pair.captions}) == 1 for pair in suite.pairs)
        counts = {"left_out": suite.left_out, "without_regions": suite.without_regions, "same_word_pieces": alike}
        records.append({"suite": str(path), **counts, **make_record(result)})
        for number, pair in enumerate(suite.pairs):
            of_pair = {way: of_pairs[number].tolist() for way, of_pairs in scores.items()}
            lines.append(orjson.dumps({"suite": str(path), **asdict(pair), "scores": of_pair}) + b"\n")
        console.print(make_table(str(path), result))
        for count, what in (
            (suite.left_out, "left out, as the authors of the suite do"),
            (suite.without_regions, "left out, because their images have no regions"),
            (alike, "wrong in any case, because both captions are the same word pieces to the model"),
        ):
            if count:
                say(f"{pluralize(count, 'pair')} {what}")
        if solved := say_what_is_solved_blind(result):
            say(solved)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / PAIRS, b"".join(lines))
    made_of = {"model": str(model), "regions": [hash_stage(folder) for folder in regions]}
    computed = {"max_text": judge.max_text, "batch_size": batch_size, "threads": torch.get_num_threads()}
    write_record({**made_of, **computed, "suites": records}, out / SCORES)
    say(f"written: {out / SCORES}, {out / PAIRS}")


if __name__ == "__main__":
    run(app)
