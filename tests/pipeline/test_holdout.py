"""Which images are held out."""

import pytest

from parsers.command import InputError
from pipeline.holdout import MOST_HELD_OUT, choose_holdout, is_held_out


@pytest.mark.parametrize(("images", "held_out"), [(4, 2), (20, 4), (500, 100), (5_000, MOST_HELD_OUT)])
def test_a_fifth_of_the_images_is_held_out_whatever_their_order(images, held_out):
    names = [f"image {number}" for number in range(images)]
    share = choose_holdout(names)
    assert sum(is_held_out(name, share) for name in names) == held_out
    assert choose_holdout(reversed(names)) == share


def test_too_few_images_are_refused():
    with pytest.raises(InputError, match="3 images with captions: at least 4 are needed"):
        choose_holdout(["a", "b", "c"])
