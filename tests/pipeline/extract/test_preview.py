"""Pictures with their regions drawn on them."""

import numpy as np
from PIL import Image

from tests.pipeline.extract.pictures import extract, rows_of


def test_previews_have_the_boxes_of_the_first_pictures(folder, weights, regions, tmp_path):
    out = tmp_path / "out"
    extract(folder, "--out", out, "--workers", 1, "--partition-size", 4, "--preview", 6, weights=weights)
    names = sorted(path.name for path in (out / "preview").iterdir())
    assert names == [f"{number // 4:05}-{number % 4:04}-{number}.jpg" for number in range(6)]
    for number, name in enumerate(names):
        drawn = np.asarray(Image.open(out / "preview" / name), int)
        plain = np.asarray(Image.open(folder / f"{number:012}.png").convert("RGB"), int)
        changed = np.abs(drawn - plain).sum(2) > 60
        x1, _, x2, y2 = np.clip(rows_of(out)[str(number)].regions.boxes[0].round(), 1, None).astype(int)
        assert changed[min(y2, len(plain)) - 1, x1 : x2 - 1].mean() > 0.5, "the lower edge of a box"
