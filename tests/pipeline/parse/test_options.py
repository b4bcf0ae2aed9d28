"""The option --columns."""

import pytest
import typer

from pipeline.parse.options import parse_columns


@pytest.mark.parametrize(("text", "expected"), [("", {}), ("caption=a, image_id=b", {"caption": "a", "image_id": "b"})])
def test_columns(text, expected):
    assert parse_columns(text) == expected


@pytest.mark.parametrize("text", ["caption", "caption=", "text=caption"])
def test_columns_of_another_form_are_refused(text):
    with pytest.raises(typer.BadParameter, match="NAME=COLUMN"):
        parse_columns(text)
