"""Docs/commands.md is what the commands say, and an option has one meaning in all of them."""

import pytest

from tests.commands_page import MEANINGS, PAGE, kind_of, list_commands, list_options, write_page


@pytest.fixture(scope="module")
def uses():
    """The commands that have an option, each with what is given to it there."""
    found = {}
    for name, command in list_commands():
        for option, part in list_options(command).items():
            found.setdefault(option, {})[name] = kind_of(part)
    return found


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == write_page(), "run: python -m tests.commands_page"


def test_every_option_of_several_commands_has_its_meaning_written_down(uses):
    assert set(MEANINGS) == {option for option, commands in uses.items() if len(commands) > 1}


def test_an_option_takes_the_same_kind_of_value_everywhere(uses):
    mixed = {option: commands for option, commands in uses.items() if len(set(commands.values())) > 1}
    assert not mixed


def test_switches_have_no_opposite():
    for name, command in list_commands():
        both = [option for option, part in list_options(command).items() if part.secondary_opts]
        assert not both, f"{name}: {both}"


def test_every_option_and_argument_is_explained():
    for name, command in list_commands():
        unexplained = [part.name for part in command.params if not part.help and not getattr(part, "hidden", False)]
        assert not unexplained, f"{name}: {unexplained}"


@pytest.mark.parametrize(
    "gone", ["--checkpoint", "--vocab", "--vocabulary", "--init-from", "--holdout", "--class-top-k"]
)
def test_what_had_two_names_has_one(uses, gone):
    assert gone not in uses
