"""Where pictures lie, what they are called, and their pixels."""

import contextlib
import io
import json
import os
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.extract import images
from pipeline.extract.images import ImageSource, open_bytes, recognise_pictures
from pipeline.parse import captions
from shards.pictures import FORMATS, image_id_of_file

RED, BLUE, GREY, WHITE = (200, 30, 40), (20, 60, 180), (128, 128, 128), (255, 255, 255)


def picture(left=RED, right=BLUE, size=(40, 20), mode="RGB"):
    """Two halves, so that a turn is seen."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image.convert(mode)


def encoded(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def colours(pixels, tolerance=8):
    """The colours of the two halves, and nothing else is in the picture."""
    width = pixels.shape[1]
    halves = [pixels[:, : width // 2 - 4], pixels[:, width // 2 + 4 :]]
    means = [half.reshape(-1, 3).mean(0) for half in halves]
    assert all(np.abs(half - mean).max() <= tolerance for half, mean in zip(halves, means, strict=True))
    return means


def close(found, expected, tolerance=8):
    return np.abs(np.subtract(found, expected)).max() <= tolerance


def decode(data):
    opened = open_bytes(data)
    pixels = opened.pixels()
    assert opened.shape == pixels.shape, "the header says how large the picture is"
    assert opened.nbytes == pixels.nbytes
    return pixels


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_that_is_taken_gives_its_pixels(format):
    options = {"JPEG": {"quality": 95}, "AVIF": {"quality": 95}, "WEBP": {"lossless": True}}.get(format, {})
    pixels = decode(encoded(picture(), format, **options))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (20, 40, 3))
    left, right = colours(pixels, tolerance=12)
    assert close(left, RED, 12)
    assert close(right, BLUE, 12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = picture()
    undone = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that make the stored picture
    stored = upright.transpose(Image.Transpose(undone[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(stored, "JPEG", quality=95, exif=exif))
    assert pixels.shape == (20, 40, 3)
    left, right = colours(pixels)
    assert close(left, RED)
    assert close(right, BLUE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_leaves_the_picture_as_it_is_stored():
    data = encoded(picture(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert close(colours(decode(data))[0], RED)


def test_cmyk_becomes_rgb():
    left, right = colours(decode(encoded(picture(mode="CMYK"), "JPEG", quality=95)))
    assert close(left, RED)
    assert close(right, BLUE)


@pytest.mark.parametrize(("format", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2")])
def test_sixteen_bits_are_scaled_not_cut_off(format, dtype):
    values = np.repeat(np.linspace(0, 65535, 256).astype(dtype)[None], 20, axis=0)
    image = Image.fromarray(values)
    pixels = decode(encoded(image, format))
    assert np.array_equal(
        pixels, np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    )


def test_sixteen_bit_colour_becomes_eight():
    rows = b"".join(b"\0" + struct.pack(">3H", 0xC81E, 0x1E00, 0x2811) * 20 for _ in range(20))
    header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert close(decode(data).reshape(-1, 3), [(200, 30, 40)], 1)


@pytest.mark.parametrize("mode", ["P", "L", "1", "LA", "RGBA", "YCbCr"])
def test_other_modes_become_rgb(mode):
    data = encoded(picture(WHITE, (0, 0, 0)).convert(mode), "TIFF" if mode == "YCbCr" else "PNG")
    left, right = colours(decode(data))
    assert close(left, WHITE)
    assert close(right, (0, 0, 0))


def test_what_is_transparent_is_white():
    image = picture().convert("RGBA")
    image.paste((9, 9, 9, 0), (20, 0, 40, 20))
    assert close(colours(decode(encoded(image)))[1], WHITE)
    palette = picture().quantize(4)
    index = palette.getpixel((30, 10))
    assert close(colours(decode(encoded(palette, transparency=index)))[1], WHITE)
    assert close(colours(decode(encoded(palette, "GIF", transparency=index)))[1], WHITE)
    deep = np.full((20, 40), 128 * 257, np.uint16)
    deep[:, 20:] = 7
    assert close(colours(decode(encoded(Image.fromarray(deep), transparency=7))), [GREY, WHITE], 0)
    half = Image.new("RGBA", (20, 20), (0, 0, 0, 128))
    assert close(decode(encoded(half)).reshape(-1, 3), [(127, 127, 127)], 1)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_of_several_frames_is_taken(format):
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(picture(), format, save_all=True, append_images=[picture(GREY, GREY)], **options)
    left, right = colours(decode(data))
    assert close(left, RED)
    assert close(right, BLUE)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "PPM", "WEBP", "TIFF"])
def test_a_truncated_picture_is_refused(format):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, format)
    with pytest.raises(ValueError, match="damaged"):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"<html>404</html>", "no picture, or of an unknown format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "no picture, or of an unknown format"),
        (encoded(picture(size=(15, 400))), "a side of less than 16 pixels"),
        (encoded(picture(size=(1, 1)), "GIF"), "a side of less than 16 pixels"),
        (encoded(picture(size=(16, 1601))), "a side more than 100 times as long as the other"),
        (encoded(Image.fromarray(np.ones((20, 20), np.float32)), "TIFF"), "cannot be made RGB: floating-point pixels"),
        (encoded(Image.fromarray(np.full((20, 20), 1 << 20, np.int32)), "TIFF"), "cannot be made RGB: 32-bit pixels"),
        (encoded(Image.fromarray(np.full((20, 20), 1 << 10, np.int32)), "TIFF"), "cannot be made RGB: 32-bit pixels"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(data, reason):
    with pytest.raises(ValueError, match=reason):
        decode(data)


@pytest.mark.parametrize("side", [9_000, 40_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side):
    """A small file that says it has gigabytes of pixels; Pillow itself warns of the smaller one only."""
    row = zlib.compressobj()
    packed = b"".join(row.compress(bytes(side // 8 + 1)) for _ in range(64)) + row.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    with pytest.raises(ValueError, match="more than 67,108,864 pixels"):
        decode(data)


@given(st.integers(0, 3000), st.integers(0, 255), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]))
def test_a_broken_byte_gives_pixels_or_a_reason(position, value, format):
    data = bytearray(encoded(picture(), format))
    data[position % len(data)] = value
    with contextlib.suppress(ValueError):
        assert decode(bytes(data)).dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "auto", "stem", "path"),
    [
        ("COCO_val2014_000000000042.jpg", "42", "COCO_val2014_000000000042", "COCO_val2014_000000000042.jpg"),
        ("train/000000000285.jpg", "285", "000000000285", "train/000000000285.jpg"),
        ("1000092795.jpg", "1000092795", "1000092795", "1000092795.jpg"),
        ("lsmdc_x/a@5.jpg", "a@5", "a@5", "lsmdc_x/a@5.jpg"),
    ],
)
def test_image_ids_of_file_names(name, auto, stem, path):
    assert [image_id_of_file(name, rule) for rule in ("auto", "stem", "path")] == [auto, stem, path]


def found(path, **options):
    source, what = recognise_pictures(Path(path), options.get("image_ids", "auto"), options.get("root"))
    return list(source.sources()), what


def test_a_folder_gives_its_pictures_at_any_depth_and_says_what_it_leaves_out(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.PNG", "1.jpg", "notes.csv", ".hidden.png"):
        (tmp_path / name).write_bytes(encoded(picture()))
    sources, what = found(tmp_path)
    assert [source.image_id for source in sources] == ["1", "2"]
    assert what == "2 pictures; left out: 1 file with other names"
    assert [images.load_picture(source).shape for source in sources] == [(20, 40, 3)] * 2, (
        "by its bytes, not by its name"
    )


def test_links_are_followed_and_one_to_nothing_is_a_reject(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.png").write_bytes(encoded(picture()))
    (tmp_path / "here").mkdir()
    (tmp_path / "here/train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here/2.png").symlink_to(tmp_path / "gone.png")
    (broken, good), _ = found(tmp_path / "here")
    assert images.load_picture(good).shape == (20, 40, 3)
    assert images.load_picture(broken).reason == "there is no such file"


def test_a_store_that_fails_is_no_fault_of_the_picture(tmp_path):
    class Failing(type(tmp_path)):
        def open(self, mode):
            raise TimeoutError("the store does not answer")

    with pytest.raises(TimeoutError):
        images.load_picture(ImageSource("1", Failing(tmp_path), "the file"))


def test_a_folder_without_pictures_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="holds no picture"):
        found(tmp_path)


def test_a_folder_is_another_one_when_a_picture_changes(tmp_path):
    (tmp_path / "1.png").write_bytes(encoded(picture()))
    before = recognise_pictures(tmp_path, "auto", None)[0].fingerprint()
    assert recognise_pictures(tmp_path, "auto", None)[0].fingerprint() == before
    (tmp_path / "1.png").write_bytes(encoded(picture(GREY)))
    assert recognise_pictures(tmp_path, "auto", None)[0].fingerprint() != before


def test_a_name_that_is_no_utf8_is_a_reject(tmp_path):
    Path(str(tmp_path), b"\xff.png".decode("utf-8", "surrogateescape")).write_bytes(encoded(picture()))
    ((reject,), _) = found(tmp_path)
    assert "not UTF-8" in reject.reason
    json.dumps(reject.source, ensure_ascii=False).encode()


def test_a_coco_list_names_its_pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(encoded(picture()))
    rows = [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "gone.png"}, {"id": 9}, {"id": True}, 3]
    (tmp_path / "list.json").write_text(json.dumps({"images": rows, "annotations": []}))
    sources, _ = found(tmp_path / "list.json", root=tmp_path / "pictures")
    assert [source.image_id for source in sources[:2]] == ["7", "8"]
    assert all(isinstance(source, Reject) for source in sources[2:])
    assert images.load_picture(sources[0]).shape == (20, 40, 3)
    assert images.load_picture(sources[1]) == sources[1].reject("there is no such file")


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def test_a_tar_is_read_in_place_under_the_ids_of_its_captions(tmp_path):
    data = encoded(picture(), "JPEG", quality=95)
    write_tar(
        tmp_path / "0.tar",
        {
            "000.jpg": data,
            "000.json": json.dumps({"url": "http://x/1.jpg", "caption": "a"}).encode(),
            "000.txt": b"a",
            "001.webp": encoded(picture(), "WEBP"),
            "001.txt": b"b",
            "002.json": b"{",
            "002.jpg": data,
            "003.txt": b"no picture",
        },
    )
    sources, _ = found(tmp_path / "0.tar")
    good, bad = sources[:2], sources[2:]
    rows = list(captions.read(tmp_path / "0.tar", "webdataset"))
    assert [source.image_id for source in good] == [row.image_id for row in rows[:2]] == ["http://x/1.jpg", "001"]
    assert [images.load_picture(source).shape for source in good] == [(20, 40, 3)] * 2
    assert [reject.reason for reject in bad] == ["its .json is not JSON", "0 pictures in the sample, expected one"]
    assert found(tmp_path)[0] == sources, "a folder of tars"


def test_a_tar_that_is_cut_off_says_so(tmp_path):
    write_tar(tmp_path / "0.tar", {f"{n}.jpg": encoded(picture()) for n in range(9)})
    data = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(data[:2048])
    *_, last = found(tmp_path / "0.tar")[0]
    assert isinstance(last, Reject)
    assert "cut off" in last.reason


def test_a_source_is_a_stretch_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"0123456789")
    assert ImageSource("x", tmp_path / "x", "", 3, 4).read() == b"3456"
    assert ImageSource("x", tmp_path / "x", "").read() == b"0123456789"


def test_a_pipe_among_the_pictures_is_rejected_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (source,) = recognise_pictures(tmp_path, "auto", None)[0].sources()
    found = images.load_picture(source)
    assert isinstance(found, Reject)
    assert found.reason == "a pipe, a socket or a device, not a file"
