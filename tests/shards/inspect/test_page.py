"""The web page of samples."""

import base64
import io
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import shards.inspect.__main__ as inspect
from parsers.command import InputError
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from shards.inspect.page import draw_graph, make_page
from shards.manifest import WITH_NEGATIVES
from shards.reader import ShardSet
from shards.regions.table import RegionsInfo, RegionsRow, label_regions, write_regions
from shards.schema import Caption
from tests.shards.samples import SAMPLES, TEXT, VOCABULARY, any_samples, make_sample, with_negatives, write_shards


def run(*arguments):
    result = CliRunner().invoke(inspect.app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


HOSTILE = "</p><script>alert('x')</script> \"&amp;"


VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that elements nest, and collects names, attributes and texts."""

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes, self.texts, self.open = Counter(), [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.names[name] += 1
        self.attributes += [(name, *attribute) for attribute in attributes]
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.names[name] += 1
        self.attributes += [(name, *attribute) for attribute in attributes]

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        self.texts.append(text)


def hostile_sample():
    sample = make_sample(HOSTILE, 1)
    span = Span(0, len(HOSTILE))
    graph = SceneGraph(
        HOSTILE,
        (Object(HOSTILE, span), Object("man", Span(1, 2))),
        (Attribute(0, HOSTILE, span),),
        (Relation(0, 1, HOSTILE, ()),),
    )
    return replace(sample, captions=tuple(Caption(HOSTILE, HOSTILE, graph) for _ in sample.captions))


def test_nothing_in_the_data_becomes_markup(tmp_path):
    folder = write_shards(tmp_path / "shards", [[hostile_sample()]])
    text = make_page(ShardSet(folder), [(0, 0)], None)
    page = Page(text)
    assert page.names["script"] == 0
    assert "<script" not in text
    assert "".join(page.texts).count(HOSTILE) >= 4, "image id, caption, nodes: as they are"
    links = [value for _, name, value in page.attributes if name in ("href", "src", "style", "onclick", "onload")]
    assert not links


@given(any_samples(st.just(6)))
def test_any_sample_has_a_page_whose_elements_nest(tmp_path_factory, sample):
    sample = replace(sample, masks=replace(sample.masks, token_ids=sample.masks.token_ids % len(VOCABULARY)))
    folder = write_shards(tmp_path_factory.mktemp("page") / "shards", [[sample]])
    page = Page(make_page(ShardSet(folder), [(0, 0)], None))
    assert page.names["article"] == 1
    assert page.names["details"] == len(sample.captions)


def test_the_page_shows_words_nodes_and_pieces_in_their_colours(folder):
    text = make_page(ShardSet(folder), [(0, 0)], None)
    for shown in (
        'a <b class="attribute" title="hat is red">red</b> <b class="object" title="hat">hat</b> '
        '<b class="relation" title="hat – on – man">on</b> a <b class="object" title="man">man</b>',
        '<span class="attribute" title="hat is red">red</span>',
        '<span class="relation" title="hat – on – man">on</span>',
        '<span class="word">a</span>',
    ):
        assert shown in text


def test_a_relation_without_words_is_dashed():
    words = SceneGraph(
        TEXT, (Object("hat", Span(6, 9)), Object("man", Span(15, 18))), (), (Relation(1, 0, "have", ()),)
    )
    assert draw_graph(words).count("dashed") == 2
    spoken = replace(words, relations=(Relation(1, 0, "have", (Span(10, 12),)),))
    assert "dashed" not in draw_graph(spoken)


def picture(path, seed):
    """A picture about as hard to compress as a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (60, 80, 3)).astype(np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    )
    coarse.save(path)


def test_a_hundred_images_with_pictures_make_one_page_below_five_megabytes(tmp_path):
    samples = []
    for number in range(100):
        sample = make_sample(str(number), 5)
        n = 36 // len(sample.regions.boxes)
        regions = type(sample.regions)(
            *(
                np.tile(getattr(sample.regions, name), (n, 1))
                for name in ("boxes", "features", "class_ids", "class_probs")
            )
        )
        samples.append(replace(sample, regions=regions))
        picture(tmp_path / f"{number:012}.jpg", number)
    folder = write_shards(tmp_path / "shards", [samples])
    run("html", folder, "--images", tmp_path, "--out", tmp_path / "page.html")
    data = (tmp_path / "page.html").read_bytes()
    assert len(data) < 5_000_000
    page = Page(data.decode())
    assert page.names["image"] == 100
    assert all(v.startswith("data:image/jpeg;base64,") for n, a, v in page.attributes if (n, a) == ("image", "href"))


@pytest.mark.parametrize(
    ("file", "image_id", "found"),
    [
        ("285.png", "285", True),
        ("000000000285.jpg", "285", True),
        ("a.b.jpg", "a.b.jpg", True),
        ("1.jpg", "http://example.org/photos/1.jpg", True),
        ("COCO_val2014_000000000042.jpg", "42", True),
        ("val2014/000000000042.jpg", "42", True),
        ("movie/a@5.jpg", "movie/a@5.jpg", True),
        ("9.JPG", "9", True),
        ("9.txt", "9", False),
        ("285.png", "286", False),
        ("285.png", "..", False),
    ],
)
def test_pictures_are_found_by_image_id(tmp_path, file, image_id, found):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    Image.new("RGB", (90, 85)).save(tmp_path / file, "PNG")
    folder = write_shards(tmp_path / "shards", [[make_sample(image_id, 1)]])
    if found:
        assert Page(make_page(ShardSet(folder), [(0, 0)], tmp_path)).names["image"] == 1
    else:
        with pytest.raises(InputError, match="holds no picture of these images"):
            make_page(ShardSet(folder), [(0, 0)], tmp_path)


def shown(tmp_path):
    """The picture of the image 285 on its page."""
    folder = write_shards(tmp_path / "shards", [[make_sample("285", 1)]])
    page = Page(make_page(ShardSet(folder), [(0, 0)], tmp_path))
    (link,) = (value for name, attribute, value in page.attributes if (name, attribute) == ("image", "href"))
    return Image.open(io.BytesIO(base64.b64decode(link.removeprefix("data:image/jpeg;base64,"))))


def test_pictures_are_shown_as_the_detector_saw_them(tmp_path):
    stored = Image.new("RGB", (85, 90), "black")
    stored.paste("white", (0, 0, 85, 45))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    stored.save(tmp_path / "285.jpg", exif=exif)
    picture = shown(tmp_path)
    assert picture.size == (90, 85)
    assert picture.getpixel((80, 40))[0] > 200 > 50 > picture.getpixel((10, 40))[0]


def test_pictures_of_sixteen_bits_are_not_all_white(tmp_path):
    Image.fromarray(np.full((85, 90), 128 * 257, np.uint16)).save(tmp_path / "285.png")
    assert np.abs(np.asarray(shown(tmp_path), int) - 128).max() <= 2


@pytest.fixture
def regions(folder, tmp_path):
    """The regions that the shards were packed from, with an attribute for each box."""
    shards, out = ShardSet(folder), tmp_path / "regions"
    out.mkdir()
    rows = []
    for number, sample in enumerate(SAMPLES):
        shown = np.full((len(sample.regions.boxes), 1), number % 2, np.int16)
        rows.append(RegionsRow(sample.image_id, 90, 85, sample.regions, shown, np.ones(shown.shape, np.float16)))
    info = RegionsInfo(shards.manifest.feature_size, shards.manifest.classes, ("shiny", "matt & flat"))
    with (out / "part-00000.parquet").open("wb") as stream:
        write_regions(stream, rows, info)
    (out / "report.json").write_text("{}")
    return out


def test_boxes_have_attributes_where_the_packed_regions_are_given(folder, regions, tmp_path):
    run("html", folder, "--regions", regions, "--out", tmp_path / "page.html")
    titles = Page((tmp_path / "page.html").read_text()).texts
    for number, sample in enumerate(SAMPLES):
        (name, share), *_ = label_regions(sample.regions, ShardSet(folder).manifest.classes)
        assert f"{('shiny', 'matt & flat')[number % 2]} {name} {share:.2f}" in titles


def test_regions_that_were_not_packed_are_refused(folder, regions):
    with pytest.raises(InputError, match="does not have the boxes of 'other'"):
        make_page(
            ShardSet(write_shards(folder.parent / "others", [[make_sample("other", 1)]])), [(0, 0)], None, regions
        )
    changed = make_sample(SAMPLES[0].image_id, 5)
    with pytest.raises(InputError, match="name the folder that was packed"):
        make_page(ShardSet(write_shards(folder.parent / "changed", [[changed]])), [(0, 0)], None, regions)


def test_a_file_that_is_no_picture_is_left_out(tmp_path):
    (tmp_path / "285.jpg").write_text("no picture")
    folder = write_shards(tmp_path / "shards", [[make_sample("285", 1)]])
    assert Page(make_page(ShardSet(folder), [(0, 0)], tmp_path)).names["image"] == 0


def test_false_captions_are_listed_with_their_changed_words(tmp_path):
    folder = write_shards(tmp_path / "set", [[with_negatives(SAMPLES[1])]], WITH_NEGATIVES)
    page = make_page(ShardSet(folder), [(0, 0)])
    assert page.count("<li><small>swap object</small> a red <mark>man</mark> on a <mark>hat</mark></li>") == 3
