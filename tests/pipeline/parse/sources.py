"""Caption files, and what is read from them."""

import json

from pipeline.execution.parts import Reject
from pipeline.parse import captions

COCO = {
    "info": {},
    "images": [{"id": 285, "file_name": "285.jpg"}],
    "annotations": [
        {"image_id": 285, "id": 1, "caption": "A bear."},
        {"image_id": 285, "id": 2, "caption": " A big bear.\n"},
        {"image_id": 632, "id": 3, "caption": "Ein Bär 🐻"},
    ],
}


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def plain(path, format):
    rows = list(captions.read(path, format))
    assert all(row.source == str(path) for row in rows)
    return [
        (row.position, row.reason)
        if isinstance(row, Reject)
        else (row.position, row.image_id, row.caption_id, row.caption)
        for row in rows
    ]
