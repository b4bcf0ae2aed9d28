"""Lists and maps of image ids, and images that lie in two folders."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsers.command import InputError
from pipeline.pack.accounts import read_accounts
from tests.pipeline.pack.tables import graphs_folder, images, make_row, pack, read, regions_folder


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
