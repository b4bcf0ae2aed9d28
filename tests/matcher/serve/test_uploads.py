"""Uploads: what is understood and what is not, row by row; hostile names, archives and pictures."""

import csv
import html
import io
import re
import struct
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from matcher.serve.projects.archives import MAX_FILES, decode_name, unpack
from matcher.serve.projects.store import IMAGE_ID, belongs, find_image_id, picture_file
from parsers.command import InputError
from shards.pictures import image_id_of_file
from shards.storage import unfolding
from tests.matcher.serve.conftest import create, start, upload, zip_of


def picture(color, size=(64, 48)):
    """A PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


RED, BLUE = picture("red"), picture("blue")
CAPTIONS = b"file,caption\nred.png,a red wall\nblue.png,a blue wall\nblue.png,the sky\n"
SOUND = {"red.png": RED, "blue.png": BLUE, "captions.csv": CAPTIONS}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data folder of the server, alone in a folder."""
    return tmp_path_factory.mktemp("uploads") / "data"


@pytest.fixture(scope="module")
def client(own, data):
    """A client of a server without projects."""
    with start(own, data) as found:
        yield found


@pytest.fixture
def key(client):
    """The key of an empty project."""
    key = create(client, "Walls")
    yield key
    client.post(f"/projects/{key}/delete", data={"confirm": "yes"})


def faults_of(page):
    """What a page says that it did not understand: file, place and reason."""
    table = re.search(r'<table id="faults">.*?</table>', page, re.S)
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", table[0] if table else "")
    return [tuple(row) for row in rows]


def take(client, key):
    """Takes an upload in and returns the page Data."""
    return client.post(f"/projects/{key}/incoming/take").text


# ---------------------------------------------------------------------------------------------------------- understood


def test_nothing_is_taken_in_before_it_was_shown(client, key):
    page = upload(client, key, {"walls.zip": zip_of(SOUND)})
    assert "2 new pictures and 3 new captions were understood." in page
    assert "Everything was understood." in page
    assert "2 pictures with 3 captions" not in client.get(f"/projects/{key}/data").text
    page = take(client, key)
    assert "2 pictures with 3 captions" in page
    assert "fewer than 100 pictures" in page
    assert client.get(f"/projects/{key}/pictures/red.jpg").headers["content-type"] == "image/jpeg"


def test_every_faulty_row_is_shown_with_its_place_and_reason_and_can_be_mended(client, key):
    rows = [
        "red.png,a red wall",
        "green.png,no such picture",
        ",no picture named",
        "red.png,",
        "red.png,a,comma too many",
        "red.png,a red wall",
        'blue.png,"an open quote',
        "blue.png,a blue wall",
        "red.png," + "word " * 600,
        "notes.txt,not a picture",
    ]
    files = {
        **SOUND,
        "captions.csv": ("file,caption\n" + "\n".join(rows) + "\n").encode() + b"blue.png,\xff\xfe\n",
        "again.png": RED,
        "broken.png": BLUE[:-25],
        "notes.txt": b"my notes",
        "other/blue.png": picture("navy"),
    }
    page = upload(client, key, {"walls.zip": zip_of(files)})
    faults = faults_of(page)
    told = {(source, place): reason for source, place, reason in faults}
    assert told["captions.csv", "line 3"] == "there is no picture green"
    assert told["captions.csv", "line 4"] == "no image_id"
    assert told["captions.csv", "line 5"] == "empty caption"
    assert told["captions.csv", "line 6"] == "3 fields under 2 column names"
    assert told["captions.csv", "line 7"] == "the same caption of red came before"
    assert "an open quote takes in the lines below" in told["captions.csv", "line 8"]
    assert told["captions.csv", "line 10"] == "caption of more than 512 words"
    assert told["captions.csv", "line 11"] == "there is no picture notes"
    assert told["captions.csv", "line 12"] == "invalid UTF-8"
    assert told["again.png", "the file"] == "the same picture as red.png"
    assert told["broken.png", "the file"].startswith("damaged or cut off")
    assert told["other/blue.png", "the file"] == "another picture is called blue.png, too"
    assert "format not recognised" in told["notes.txt", "the file"]
    assert "2 new pictures and 2 new captions" in page
    table = list(csv.reader(io.StringIO(client.get(f"/projects/{key}/incoming.csv").text.removeprefix("\ufeff"))))
    assert [tuple(map(html.unescape, fault)) for fault in faults] == [tuple(row) for row in table[1:]]
    take(client, key)
    page = upload(client, key, {"captions.csv": CAPTIONS})  # mended, without the pictures
    assert "0 new pictures and 1 new captions" in page
    assert "2 pictures with 3 captions" in take(client, key)


def test_pictures_without_text_are_named(client, key):
    page = upload(client, key, {"red.png": RED, "blue.png": BLUE, "captions.csv": b"file,caption\nred.png,a wall\n"})
    assert faults_of(page) == [("blue.png", "the file", "a picture without a caption")]


def test_columns_may_have_other_names(client, key):
    files = {"red.png": RED, "table.csv": "photo,text\nred.png,a red wall\n".encode("utf-8-sig")}
    assert "format not recognised" in upload(client, key, files)
    assert "1 new captions" in upload(client, key, files, image_id="photo", caption="text")


def test_names_in_any_script_stay(client, key):
    files = {"红墙.png": RED, "captions.csv": "file,caption\n红墙.png,a red wall\n".encode()}
    assert "1 new pictures and 1 new captions" in upload(client, key, {"w.zip": zip_of(files)})
    assert "红墙.png" in take(client, key)
    assert client.get(f"/projects/{key}/pictures/红墙.jpg").status_code == 200


def test_an_upload_can_be_discarded(client, key):
    upload(client, key, SOUND)
    assert client.post(f"/projects/{key}/incoming/discard").url.path == f"/projects/{key}/data"
    assert client.get(f"/projects/{key}/incoming").url.path == f"/projects/{key}/data"


def test_a_form_without_files_is_answered(client, key):
    page = client.post(f"/projects/{key}/data", files={"files": ("", b"")})
    assert page.status_code == 400
    assert "no file was chosen" in page.text


# ------------------------------------------------------------------------------------------------------------- attacks


def test_names_with_markup_or_paths_are_text_and_nothing_else(client, data):
    evil = "<img src=x onerror=alert(1)>.png"
    files = {
        "../../escaped.png": RED,
        "/absolute.png": BLUE,
        "C:\\windows.png": picture("green"),
        evil: picture("white"),
        "captions.csv": b'file,caption\n../../escaped.png,"<script>alert(1)</script>"\n',
    }
    key = create(client, "<b>bold</b>")
    page = upload(client, key, {"../../../evil.zip": zip_of(files)})
    pages = [page, take(client, key), client.get("/").text]
    for page in pages:
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "<b>bold" not in page
    assert {path.name for path in data.parent.iterdir()} == {"data"}
    written = {path.name for path in (data / "projects" / key / "pictures").iterdir()}
    assert {"escaped.png", "absolute.png"} < written
    assert not [name for name in written if re.search(r"[<>\\/]", name)]


def test_archives_that_unfold_to_far_more_than_they_hold_end_early(tmp_path, monkeypatch):
    monkeypatch.setattr(unfolding, "MAX_BYTES", 2 << 20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(8 << 20))
    with pytest.raises(InputError, match="unfold to 3,145,728 or more"):
        list(unpack(path, lambda _: tmp_path / "bomb.png"))


def test_archives_with_links_or_too_many_files_are_refused(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert list(unpack(path, lambda _: tmp_path / "x")) == ["link.png: is a link or a device, not a file"]
    assert not (tmp_path / "x").exists()
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(MAX_FILES + 1):
            archive.writestr(str(number), "")
    with pytest.raises(InputError, match="20,001 files"):
        list(unpack(path, lambda _: None))


@given(st.binary(max_size=200), st.integers(0, 120))
def test_damaged_archives_are_refused_in_words(damage, place):
    import tempfile
    from pathlib import Path

    data = zip_of({"a.png": RED, "b.csv": CAPTIONS})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.zip")
        path.write_bytes(data[:place] + damage + data[place + len(damage) :])
        taken = iter(range(100))
        try:
            list(unpack(path, lambda _: Path(folder, str(next(taken)))))
        except InputError:
            return


def test_pictures_of_a_billion_pixels_are_refused(client, key):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    assert "more than 67,108,864 pixels" in upload(client, key, {"bomb.png": bomb})


def test_archives_of_projects_hold_nothing_else(client, tmp_path):
    for files, reason in (
        ({"readme.txt": b"hello"}, "the archive holds no project"),
        ({"project.json": b"{}"}, "project.json"),
        ({"project.json": b'{"name": "a"}', "../x": b"", "versions/1/matcher/work/a.pt": b"pickle"}, None),
        ({"project.json": b'{"name": "a"}', "contents.json": b'{"pictures": [{"image_id": "../x"}]}'}, "contents.json"),
    ):
        page = client.post("/projects/import", files={"archive": ("p.zip", zip_of(files))})
        assert page.status_code == (200 if reason is None else 400), page.text
        assert reason is None or reason in page.text
    assert "no zip archive" in client.post("/projects/import", files={"archive": ("p.zip", b"nonsense")}).text
    client.post("/projects/a/delete", data={"confirm": "yes"})


@pytest.mark.parametrize(
    "path", ["../project.json", "/etc/passwd", "pictures/../../x", "versions/1/matcher/work/training/checkpoints/a.pt",
             "pictures/.hidden", "pictures/a/b", "versions/0/job.json", "regions/x.tmp"]
)  # fmt: skip
def test_what_no_project_has_belongs_to_none(path):
    assert not belongs(path)


@given(st.text(max_size=300))
def test_image_ids_are_safe_names_of_files_and_are_read_back(name):
    image_id = find_image_id(image_id_of_file(name, "auto"))
    assert re.fullmatch(IMAGE_ID, image_id)
    assert len(image_id.encode()) <= 200
    file = picture_file(image_id, name)
    assert "/" not in file
    assert not file.startswith(".")
    assert image_id_of_file(file, "stem") == image_id
    assert find_image_id(image_id) == image_id


def test_names_of_archives_from_chinese_windows_are_read():
    member = zipfile.ZipInfo("狗.png".encode("gb18030").decode("cp437"))
    assert decode_name(member) == "狗.png"
