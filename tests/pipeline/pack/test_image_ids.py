"""Lists and maps of image ids, and images that lie in two folders."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsers.command import InputError
from pipeline.pack.accounts import read_accounts
from tests.pipeline.pack.tables import graphs_folder, images, make_caption, make_row, pack, read, regions_folder


def test_regions_of_an_image_in_two_folders_are_refused_with_both_names(tmp_path, vocabulary):
    ids, texts = images(4)
    a = regions_folder(tmp_path / "regions-a", [make_row(i, 1) for i in ids[:3]])
    b = regions_folder(tmp_path / "regions-b", [make_row(i, 1) for i in ids[2:]])
    with pytest.raises(InputError, match=r"2\.jpg' has regions in .*regions-a and in .*regions-b"):
        pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), [a, b])


def test_captions_of_an_image_in_two_folders_are_refused_with_both_names(tmp_path, vocabulary):
    ids, texts = images(4, 1)
    a = graphs_folder(tmp_path / "graphs-a", texts[:3])
    b = graphs_folder(tmp_path / "graphs-b", texts[2:])
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    with pytest.raises(InputError, match=r"2\.jpg' has captions in .*graphs-a and in .*graphs-b"):
        pack(tmp_path, [a, b], regions)


def test_excluded_images_are_in_no_split(tmp_path, vocabulary):
    ids, texts = images(40, 2)
    lists = [tmp_path / "refcoco.txt", tmp_path / "flickr.txt"]
    lists[0].write_text("".join(f"{i}\n" for i in ids[:15]) + "unknown\n\n")
    lists[1].write_text("\r\n".join(ids[10:20]))
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    graphs = graphs_folder(tmp_path / "graphs", texts)
    out, _ = pack(tmp_path, graphs, regions, holdout=0.3, exclude_ids=tuple(lists))
    assert set(read(out / "train")) | set(read(out / "val")) == set(ids[20:])
    accounts = read_accounts(out)
    assert (accounts["images"].kinds["excluded"], accounts["captions"].kinds["excluded"]) == (20, 40)
    with pytest.raises(InputError, match="exclude_ids"):
        pack(tmp_path, graphs, regions, holdout=0.3, exclude_ids=tuple(lists[:1]))


COCO_IDS = ["42", "1000", "262145", "7"]


def coco_set(tmp_path, name="{}"):
    """Graphs and regions of four of COCO's images, whose regions are named otherwise."""
    captions = [(image_id, make_caption(0)) for image_id in COCO_IDS]
    rows = [make_row(name.format(image_id.zfill(12)), 1) for image_id in COCO_IDS]
    return graphs_folder(tmp_path / "graphs", captions), regions_folder(tmp_path / "regions", rows)


@pytest.mark.parametrize(
    "text",
    [
        "000000000042\n000000001000\n",
        "COCO_val2014_000000000042.jpg\r\nCOCO_train2014_000000001000\r\n",
        "000000000042.jpg\n1000.jpg\n",
        "[42, 1000]",
        '["42",\n "COCO_val2014_000000001000.jpg"]\n',
        "\ufeff42\n1000",
        "\ufeff[42, 1000]",
    ],
)
def test_ids_are_excluded_in_whichever_shape_they_are_listed(tmp_path, vocabulary, capsys, text):
    graphs, _ = coco_set(tmp_path)
    regions = regions_folder(tmp_path / "plain", [make_row(image_id, 1) for image_id in COCO_IDS])
    (tmp_path / "ids.txt").write_text(text, newline="")
    out, _ = pack(tmp_path, graphs, regions, exclude_ids=(tmp_path / "ids.txt",))
    assert set(read(out / "train")) == set(COCO_IDS[2:])
    assert f"2 of 2 ids of {tmp_path / 'ids.txt'} occur" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[[42, 1000]]", '{"images": [{"id": 42}]}', "[42", "[" * 100_000, "[4.5]", "[null]"])
def test_json_that_is_no_array_of_ids_is_refused(tmp_path, vocabulary, text):
    (tmp_path / "ids.json").write_text(text)
    with pytest.raises(InputError, match=r"ids\.json: (is no JSON array|begins as JSON)"):
        pack(tmp_path, *coco_set(tmp_path), exclude_ids=(tmp_path / "ids.json",))


@pytest.mark.parametrize("text", ["43\nred\n", ""])
def test_a_list_that_names_no_image_is_refused_unless_that_is_allowed(tmp_path, vocabulary, text):
    ids, texts = images(4)
    graphs = graphs_folder(tmp_path / "graphs", texts)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    (tmp_path / "some.txt").write_text(f"{ids[0]}\n")
    (tmp_path / "none.txt").write_text(text)
    lists = (tmp_path / "some.txt", tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"0 of [02] ids of .*none\.txt occur.*--allow-unmatched"):
        pack(tmp_path, graphs, regions, exclude_ids=lists)
    out, _ = pack(tmp_path, graphs, regions, exclude_ids=lists, allow_unmatched=True)
    assert set(read(out / "train")) == set(ids[1:])


@pytest.mark.parametrize("name", ["COCO_val2014_{}", "{}", "COCO_train2014_{}.jpg"])
def test_names_of_coco_match_its_numbers_by_an_option_that_the_error_proposes(tmp_path, vocabulary, name):
    graphs, regions = coco_set(tmp_path, name)
    with pytest.raises(InputError, match=r"nothing to pack.* with --coco-ids 4 images of them match"):
        pack(tmp_path, graphs, regions, out="without")
    out, _ = pack(tmp_path, graphs, regions, coco_ids=True)
    assert set(read(out / "train")) == set(COCO_IDS)


def test_ids_that_match_in_no_way_get_no_such_proposal(tmp_path, vocabulary):
    with pytest.raises(InputError, match=r"nothing to pack") as error:
        pack(tmp_path, *coco_set(tmp_path, "other-{}"))
    assert "--coco-ids" not in str(error.value)


def test_an_id_map_joins_what_is_named_otherwise(tmp_path, vocabulary):
    ids, texts = images(4, 1)
    mapping = tmp_path / "map.parquet"
    pq.write_table(pa.table({"from": ["0", "1", "9"], "to": [ids[0], ids[1], "x"]}), mapping)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ("0", "1", ids[2], "3")])
    out, _ = pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions, id_map=mapping)
    assert set(read(out / "train")) == set(ids[:3])
    assert (out / "images-without-captions.txt").read_text() == "3\n"


@pytest.mark.parametrize("columns", [{"from": ["a", "a"], "to": ["b", "c"]}, {"from": ["a", "b"], "to": ["c", "c"]}])
def test_an_id_map_that_is_not_one_to_one_is_refused(tmp_path, vocabulary, columns):
    mapping = tmp_path / "map.parquet"
    pq.write_table(pa.table(columns), mapping)
    ids, texts = images(2)
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    with pytest.raises(InputError, match="occurs twice"):
        pack(tmp_path, graphs_folder(tmp_path / "graphs", texts), regions, id_map=mapping)
