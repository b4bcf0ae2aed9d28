"""Tables of graphs and regions that another program has changed: one error that names the file, or rejects."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import pipeline.statistics.__main__ as statistics
import pipeline.toyworld.recall as recall
from parsers.command import InputError
from pipeline.graph_table import GRAPHS
from shards.regions.store import RegionStore
from shards.regions.table import REGIONS
from tests.pipeline.pack.tables import graphs_folder, images, make_row, pack, regions_folder, write_vocabulary
from tests.pipeline.regions.features import read_all

IDS, TEXTS = images(4, 1)


@pytest.fixture
def folders(tmp_path):
    write_vocabulary(tmp_path)
    rows = [make_row(image_id, number) for number, image_id in enumerate(IDS)]
    return graphs_folder(tmp_path / "graphs", TEXTS), regions_folder(tmp_path / "regions", rows)


def change(folder, how):
    """Rewrites the only part of a folder; its metadata stays."""
    (path,) = folder.glob("*.parquet")
    table = pq.read_table(path)
    metadata = {key: value for key, value in table.schema.metadata.items() if not key.startswith(b"footer")}
    pq.write_table(how(table).replace_schema_metadata(metadata), path)
    return path


def without(name):
    return lambda table: table.drop_columns([name])


def with_values(name, make):
    def how(table):
        values = table[name].to_pylist()
        place = table.schema.get_field_index(name)
        column = make(values, table.schema.field(name).type)
        return table.set_column(place, pa.field(name, column.type), column)

    return how


def of_type(type):
    return lambda values, _: pa.nulls(len(values), type) if values else pa.array([], type)


def nested_null(values, type):
    """Puts a null in the place of the first number or text that lies in the first row."""
    inside = values[0]
    while isinstance(inside[0], list):
        inside = inside[0]
    if isinstance(inside[0], dict):
        inside[0] = dict.fromkeys(inside[0])
    else:
        inside[0] = None
    return pa.array(values, type)


def first_null(values, type):
    return pa.array([None, *values[1:]], type)


REQUIRED = [field.name for field in REGIONS if not field.nullable]
CHANGES = [
    *(pytest.param("regions", without(name), id=f"no {name}") for name in REQUIRED),
    *(pytest.param("regions", with_values(n, of_type(pa.float64())), id=f"{n} of floats") for n in REGIONS.names),
    *(pytest.param("graphs", without(f.name), id=f"no {f.name}") for f in GRAPHS if not f.nullable),
    *(pytest.param("graphs", with_values(n, of_type(pa.float64())), id=f"{n} of floats") for n in GRAPHS.names),
    *(pytest.param("graphs", with_values(n, nested_null), id=f"null in {n}") for n in ("objects", "relations")),
    *(pytest.param("graphs", with_values(n, first_null), id=f"null {n}") for n in ("image_id", "caption", "objects")),
    pytest.param("regions", with_values("image_id", first_null), id="null id of regions"),
]


@pytest.mark.parametrize(("which", "how"), CHANGES)
def test_pack_names_the_table_that_is_not_ours(tmp_path, folders, which, how):
    path = change(tmp_path / which, how)
    with pytest.raises(InputError, match=str(path)):
        pack(tmp_path, *folders)


@pytest.mark.parametrize(("which", "how"), [change for change in CHANGES if change.values[0] == "regions"])
def test_so_does_whoever_reads_the_regions_of_single_images(tmp_path, folders, which, how):
    path = change(tmp_path / which, how)
    with pytest.raises(InputError, match=str(path)):
        RegionStore([tmp_path / "regions"])


@pytest.mark.parametrize("name", REQUIRED)
def test_so_does_the_stage_of_regions(tmp_path, folders, name):
    for how in (with_values(name, of_type(pa.float64())), without(name)):
        path = change(tmp_path / "regions", how)
        with pytest.raises(InputError, match=str(path)):
            read_all("parquet", path)


@pytest.mark.parametrize("name", REQUIRED)
def test_so_does_the_stage_of_regions_where_only_a_later_part_is_not_ours(tmp_path, folders, name):
    path = change(tmp_path / "regions", without(name))
    first = path.rename(path.with_name("part-00001.parquet"))
    regions_folder(tmp_path / "sound", [make_row(image_id, number) for number, image_id in enumerate(IDS)])
    (tmp_path / "sound/part-00000.parquet").rename(path)
    with pytest.raises(InputError, match=str(first)):
        read_all("parquet", tmp_path / "regions")


@pytest.mark.parametrize("name", ["width", "boxes", "features"])
def test_rows_with_nulls_are_rejected(tmp_path, folders, name):
    change(tmp_path / "regions", with_values(name, first_null))
    with pytest.raises(InputError, match="nothing to pack"):
        pack(tmp_path, *folders, max_rejects=1)
    rejects = (tmp_path / "out" / "rejects" / "part-00000.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in rejects] == [f"a null among the values of {name}"] * len(IDS)


@pytest.mark.parametrize("name", ["boxes", "class_ids", "class_probs"])
def test_rows_with_nulls_inside_are_rejected(tmp_path, folders, name):
    path = change(tmp_path / "regions", with_values(name, nested_null))
    _, rows = read_all("parquet", path)
    assert {row.reason for row in rows} == {f"a null among the values of {name}"}


@pytest.mark.parametrize(
    "changes",
    [
        {b"feature_size": b"four"},
        {b"feature_size": b"0"},
        {b"classes": b"{}"},
        {b"classes": b"\xff"},
        {b"attribute_names": b"[1]"},
        {b"attribute_names": b'"ab"'},
    ],
)
def test_metadata_that_is_not_ours_is_refused(tmp_path, folders, changes):
    (path,) = (tmp_path / "regions").glob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | changes), path)
    with pytest.raises(InputError, match=str(path)):
        pack(tmp_path, *folders)


@pytest.mark.parametrize(("which", "how"), [change for change in CHANGES if change.values[0] == "graphs"])
def test_statistics_names_the_table_that_is_not_ours(tmp_path, folders, which, how):
    path = change(tmp_path / which, how)
    arguments = [str(tmp_path / "graphs"), "--out", str(tmp_path / "out"), "--workers", "1"]
    result = CliRunner().invoke(statistics.app, arguments)
    if isinstance(result.exception, InputError):
        assert str(path) in str(result.exception)
    else:  # statistics reads only some columns
        assert result.exit_code == 0, result.exception


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        "\xff",
        '{"things": 1, "shelf": null}',
        '{"image_id": 1, "things": [], "shelf": 7, "backdrop": 1}',
    ],
)
def test_scenes_that_are_none_are_refused(tmp_path, folders, line):
    info_folder = tmp_path / "regions"
    (path,) = info_folder.glob("*.parquet")
    table = pq.read_table(path)
    classes = json.loads(table.schema.metadata[b"classes"]) | {"names": ["background", "a", "b", "c", "d"]}
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"classes": json.dumps(classes)}), path)
    (tmp_path / "scenes.jsonl").write_bytes(line.encode("latin-1") + b"\n")
    result = CliRunner().invoke(recall.app, [str(info_folder), "--scenes", str(tmp_path / "scenes.jsonl")])
    assert isinstance(result.exception, InputError), result.exception
    assert "scenes.jsonl" in str(result.exception)


def test_recall_needs_classes_with_names(tmp_path, folders):
    (tmp_path / "scenes.jsonl").write_text("")
    result = CliRunner().invoke(recall.app, [str(tmp_path / "regions"), "--scenes", str(tmp_path / "scenes.jsonl")])
    assert isinstance(result.exception, InputError)
    assert "no classes with names" in str(result.exception)
