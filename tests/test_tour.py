"""The tour of docs/tour.py: it runs, its page is made of it, and the picture tells the model something."""

import re

import pytest

from tests.tour_page import PAGE, read_chapters, take_tour, write_page


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return list(take_tour(tmp_path_factory.mktemp("tour")))


def test_the_page_has_the_text_and_the_code_of_the_tour():
    nothing = [""] * len(list(read_chapters()))
    without_outputs = re.sub(r"```text\n.*?```\n\n?", "", PAGE.read_text(), flags=re.S)
    assert without_outputs.rstrip() == write_page(nothing).rstrip(), "run: python -m tests.tour_page"


def test_what_follows_from_text_alone_is_printed_as_on_the_page(outputs):
    page = PAGE.read_text()
    for output in outputs[1:4]:
        assert output.strip()
        assert output.rstrip() in page


def test_with_the_own_picture_far_more_objects_are_named_than_without_or_with_another(outputs):
    shares = {name.strip(): int(share) for name, share in re.findall(r"^([a-z ]+?) +(\d+)%$", outputs[-1], re.M)}
    assert set(shares) == {"guessing", "own image", "no image", "other image"}
    assert shares["own image"] > 30
    assert shares["own image"] > 1.8 * max(shares["no image"], shares["other image"], shares["guessing"])
