"""The false captions that `pipeline.negatives` wrote, as texts by the true caption."""

from __future__ import annotations

import pyarrow as pa

from parsers.command import InputError
from shards.stage_folder import find_null, open_part, parts_of
from shards.storage.files import AnyPath

NEGATIVES_KEY, NEGATIVES_VERSION = "negatives_version", "1"
NEGATIVE_TEXTS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("caption_id", pa.string()),
        pa.field("true_caption", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
    ]
)
"""The columns that need no graph: the image, the id and the text of the true caption, the false caption, and its kind,
one of `shards.schema.NEGATIVE_KINDS`."""
ROWS = 1 << 16
"""rows that are read at a time"""


def read_false_captions(folder: AnyPath) -> dict[tuple[str, str], list[str]]:
    """Reads the false captions by the image id and the caption id of the true one, in the order of the table.

    Those of captions without an id are left out.

    Raises:
        InputError: the folder is none of `pipeline.negatives`, or a part of it is damaged.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for part in parts_of(folder):
        file = open_part(part, NEGATIVES_KEY, {NEGATIVES_VERSION: NEGATIVE_TEXTS})
        for batch in file.iter_batches(ROWS, columns=NEGATIVE_TEXTS.names):
            if (column := find_null(batch, NEGATIVE_TEXTS)) is not None:
                raise InputError(f"{part}: a null among the values of {column}; run its stage again")
            for row in batch.to_pylist():
                if row["caption_id"] is not None:
                    found.setdefault((row["image_id"], row["caption_id"]), []).append(row["caption"])
    return found
