"""Damages files: their bytes, and by their kind what the bytes mean."""

import hashlib
import json
import re
import shutil
from pathlib import Path, PurePath
from random import Random

from tests.fuzz import containers, texts

NUMBERS = (b"-1", b"0", b"1e999", b"nan", b"9" * 25, b"9" * 5000, b"4294967296", b"-9223372036854775809", b"1.5", b"")
WORDS = (
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\x80",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\xc3\x28",
)
WORDS += (b"PAR1", b"PK\x03\x04", b"\x80\x04.", b"{" * 50, b"\x1b[2J", "\u202e".encode(), b"\xed\xa0\x80", b"\0" * 512)
_DIGITS = re.compile(rb"\d+")
MOST = 1 << 24
"""Bytes of a damaged file."""


def damage_files(folder: Path, names: list[str], random: Random, others: list[bytes]) -> str:
    """Damages one or two files of a folder; returns what was done.

    Args:
        folder: is changed.
        names: files and folders in it; each counts alike, however many files it holds.
        random: decides everything.
        others: bytes of other files, to be mixed in.
    """
    done = []
    for _ in range(random.choice((1, 1, 1, 1, 2))):
        chosen = folder / random.choice(names)
        files = sorted(path for path in chosen.rglob("*") if path.is_file()) if chosen.is_dir() else [chosen]
        path = random.choice(files) if files else chosen
        done.append(f"{path.relative_to(folder)}: {_damage_file(path, random, others)}")
    if random.random() < 0.7:
        _reseal(folder)
    return "; ".join(done)


def _damage_file(path: Path, random: Random, others: list[bytes]) -> str:
    if not path.is_file():
        return "is gone already"
    match random.randrange(40):
        case 0:
            path.unlink()
            return "removed"
        case 1:
            path.unlink()
            path.mkdir()
            return "made a folder"
        case 2:
            path.write_bytes(random.choice((b"", b"\n", b"\0", random.choice(others))))
            return "replaced"
    data = path.read_bytes()
    by_kind = random.random() < 0.6
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        data = (damage_by_kind if by_kind else damage_bytes)(path.name, data, random, others)[:MOST]
    path.write_bytes(data)
    return "by its kind" if by_kind else "bytes"


def damage_by_kind(name: str, data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Damages what a file means; where it is too damaged for that already, its bytes."""

    def inner(name: str, data: bytes, random: Random) -> bytes:
        return (damage_by_kind if random.random() < 0.7 else damage_bytes)(name, data, random, others)

    try:
        match PurePath(name).suffix:
            case ".json":
                return texts.damage_json(data.decode(), random).encode(errors="surrogatepass")
            case ".jsonl":
                return texts.damage_json_lines(data.decode(), random).encode(errors="surrogatepass")
            case ".yaml":
                return texts.damage_yaml(data.decode(), random).encode(errors="surrogatepass")
            case ".csv":
                return texts.damage_table(data.decode(), ",", random).encode(errors="surrogatepass")
            case ".tsv" | ".txt":
                return texts.damage_table(data.decode(), "\t", random).encode(errors="surrogatepass")
            case ".parquet":
                return containers.damage_parquet(data, random)
            case ".tar":
                return containers.damage_tar(data, random, inner)
            case ".npz" | ".pt" | ".bin" | ".zip":
                return containers.damage_zip(data, random, inner)
            case ".npy":
                return containers.damage_npy(data, random)
            case ".p" | ".pkl":
                return containers.damage_pickle(data, random)
            case ".safetensors":
                return containers.damage_safetensors(data, random, inner)
            case ".png":
                return containers.damage_png(data, random)
    except Exception:  # what was damaged before may be of no kind any more
        pass
    return damage_bytes(name, data, random, others)


def damage_bytes(_: str, data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Flips, cuts, inserts, repeats or replaces bytes, whatever they mean."""
    if not data:
        return random.choice(WORDS)
    start = random.randrange(len(data))
    stop = min(len(data), start + int(2 ** random.uniform(0, 12)))
    match random.randrange(9):
        case 0 | 1:
            changed = bytearray(data)
            for _number in range(random.choice((1, 1, 4, 30))):
                changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
            return bytes(changed)
        case 2:
            return data[:start]
        case 3:
            return data[:start] + random.choice(WORDS) + data[start:]
        case 4:
            return data[:start] + data[stop:]
        case 5:
            return data[:stop] + data[start:stop] * random.choice((1, 2, 100)) + data[stop:]
        case 6:
            other = random.choice(others)
            cut = random.randrange(len(other) + 1)
            return data[:start] + other[cut : cut + 4096] + data[stop:]
        case 7:
            found = list(_DIGITS.finditer(data[: 1 << 16]))
            if found:
                number = random.choice(found)
                return data[: number.start()] + random.choice(NUMBERS) + data[number.end() :]
    word = random.choice(WORDS)
    return data[:start] + word + data[start + len(word) :]


def _reseal(folder: Path) -> None:
    """Lets manifests say what their damaged files are now, so that more than sizes and checksums is read."""
    for path in sorted(folder.rglob("manifest.json")):
        manifest = containers.as_json(path.read_bytes()) if path.is_file() else None
        index = path.with_name("index.parquet")
        if not containers.describes(manifest) or not index.is_file():
            continue
        manifest["index_sha256"] = hashlib.sha256(index.read_bytes()).hexdigest()
        for shard in manifest["shards"]:
            if isinstance(shard, dict) and isinstance(shard.get("file"), str) and 0 < len(shard["file"]) < 100:
                tar = path.parent / PurePath(shard["file"].replace("\0", "")).name
                if tar.is_file():
                    shard["bytes"] = tar.stat().st_size
                    shard["sha256"] = hashlib.sha256(tar.read_bytes()).hexdigest()
        path.write_text(json.dumps(manifest))


def copy(source: Path, target: Path, names: list[str]) -> None:
    """Copies files and folders by name."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            shutil.copyfile(source / name, target / name)


def names_in(folder: Path) -> list[str]:
    """The files and folders in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
