"""What pack says of captions and pictures that nearly repeat each other."""

import pyarrow.parquet as pq

from pipeline.duplicates.pictures import write_hashes
from pipeline.holdout import is_held_out
from tests.pipeline.pack.tables import graphs_folder, make_caption, make_row, pack, regions_folder

REPEATED = "a dog in a red coat runs after a ball on the beach"


def test_captions_and_pictures_that_stand_in_both_splits_are_counted(tmp_path, vocabulary):
    names = [str(number) for number in range(60)]
    held_out = [name for name in names if is_held_out(name, 0.2)]
    trained = [name for name in names if name not in held_out]
    a, b, c = held_out[0], trained[0], trained[1]
    texts = {a: REPEATED, b: f"{REPEATED}!", c: f"{REPEATED} today"}
    rows = [(name, make_caption(0, texts.get(name, f"w{name} x{name} y{name} z{name}"))) for name in names]
    rows.append(("not packed", make_caption(0, REPEATED)))
    graphs = graphs_folder(tmp_path / "graphs", rows[:30], rows[30:])
    regions = regions_folder(tmp_path / "regions", [make_row(f"0{name}", 1) for name in names])
    (regions / "hashes").mkdir()
    with (regions / "hashes/part-00000.parquet").open("wb") as stream:
        hashes = {f"0{a}": bytes(32), f"0{c}": b"\x01" + bytes(31), f"0{b}": b"\xff" * 32, "elsewhere": bytes(32)}
        write_hashes(stream, list(hashes), list(hashes.values()))
    out, report = pack(tmp_path, graphs, regions, holdout=0.2, shard_size=7, coco_ids=True)
    rows = pq.read_table(out / "near-duplicates.parquet").to_pylist()
    found = {(row["kind"], row["image_id"], row["split"]) for row in rows}
    assert found == {
        ("captions", a, "val"),
        ("captions", b, "train"),
        ("captions", c, "train"),
        ("pictures", a, "val"),
        ("pictures", c, "train"),
    }
    assert report.statistics["captions that nearly repeat others"] == 3
    assert report.statistics["captions held out that nearly repeat some of train/"] == 1
    assert report.statistics["pictures held out that nearly repeat some of train/"] == 1


def test_without_repetitions_the_table_is_empty(tmp_path, vocabulary):
    graphs = graphs_folder(tmp_path / "graphs", [("1", make_caption()), ("1", make_caption(1))])
    out, report = pack(tmp_path, graphs, regions_folder(tmp_path / "regions", [make_row("1", 1)]))
    assert pq.read_table(out / "near-duplicates.parquet").num_rows == 0
    assert not any("repeat" in name for name in report.statistics)
