"""Damage to JSON, YAML, CSV and TSV that leaves most of their layout as it is."""

import base64
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import yaml

VALUES = (
    *("null", "true", "-1", "0", "1", "0.5", "-0.0", "1e308", "1e999", "NaN", "-Infinity", "9" * 20, "-" + "9" * 20),
    *("9" * 5000, "4294967296", "2147483648", "32768", "{}", "[]", "[[]]", "[[[1]]]", '{"a": null}', '[null, "x", 1]'),
    *('""', '" "', '"1"', '"1.5"', '"nan"', '"\\ud800"', '"\\u0000"', '"\\u2028"', '"\\u202e\\u2066 cba"', '"../../x"'),
    *('"\\u001b[31mred"', '"[bold]x[/]"', '"[/red]"', '"a\\tb\\nc"', '"{}"', '"%s"', '"/etc/passwd"', '"."'),
)
"""JSON of what a value may be replaced by."""
LONG = (
    '"' + "x" * 100_000 + '"',
    "[" * 3000 + "]" * 3000,
    '{"a":' * 3000 + "1" + "}" * 3000,
    "[" + "0," * 50_000 + "0]",
)
YAML_VALUES = (
    *(
        "2024-99-99",
        "2024-01-01",
        "*nowhere",
        "&a [*a]",
        ".nan",
        ".inf",
        "0x",
        "1_000",
        "!!binary x",
        "~",
        "!unknown 1",
    ),
    *(
        '!!python/object/apply:os.system ["true"]',
        "!!int x",
        "!!float x",
        "!!timestamp x",
        "!!set {a}",
        "? 1",
        "1:30:00",
    ),
    "&a [&b [x, x], &c [*b, *b], &d [*c, *c], *d, *d]",
)
FIELDS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1.5",
        "nan",
        "inf",
        "9" * 20,
        "9" * 5000,
        "1e400",
        "x",
        '"',
        '"""',
        "\0",
        "\u2028",
        "\u202e",
    ),
    *("\ud800", "x" * 140_000, "1|2", "|", "[bold]", "../x", "\x1b[31m", "一", "٣", "²", "1 2 3", "=", "\r", "-"),
)
_HOLE = "\ue000hole\ue000"
"""Stands where a text is put that no value can be written as."""


def damage_json(text: str, random: Random) -> str:
    """Replaces, repeats, renames or removes a value."""
    return _damaged(json.loads(text), random, VALUES)


def damage_yaml(text: str, random: Random) -> str:
    """The same of YAML; the result is mostly JSON, which is YAML too."""
    return _damaged(yaml.safe_load(text), random, (*VALUES, *YAML_VALUES, *YAML_VALUES))


def damage_json_lines(text: str, random: Random) -> str:
    """The same of a line."""
    lines = text.split("\n")
    number = random.choice([number for number, line in enumerate(lines) if line.strip()])
    lines[number] = damage_json(lines[number], random)
    return "\n".join(lines)


def damage_table(text: str, mark: str, random: Random) -> str:
    """Changes, adds, removes or moves a field, or a line; base64 stays base64 now and then."""
    lines = [line.split(mark) for line in text.split("\n")]
    row = random.choice([number for number, fields in enumerate(lines) if fields != [""]])
    fields = lines[row]
    column = random.randrange(len(fields))
    match random.randrange(7):
        case 0 if len(fields[column]) > 15:
            fields[column] = _damaged_base64(fields[column], random)
        case 0 | 1 | 2:
            fields[column] = random.choice(FIELDS)
        case 3:
            del fields[column]
        case 4:
            fields.insert(column, random.choice(FIELDS))
        case 5:
            other = random.randrange(len(fields))
            fields[column], fields[other] = fields[other], fields[column]
        case _:
            lines.insert(random.randrange(len(lines)), random.choice(([], [""], fields, fields[:1], [mark])))
    return "\n".join(map(mark.join, lines))


def _damaged_base64(field: str, random: Random) -> str:
    try:
        data = bytearray(base64.b64decode(field, validate=True))
    except ValueError:
        return field + "="
    number = random.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\0\0\0", b"\xff\xff\xff\xff"))
    if random.random() < 0.3:
        data = data[: random.randrange(len(data) + 1)]
    else:
        start = 4 * random.randrange(max(1, len(data) // 4))
        data[start : start + 4] = number
    return base64.b64encode(data).decode()


def _damaged(value: Any, random: Random, texts: tuple[str, ...]) -> str:
    places = list(_places([value]))
    container, key = random.choice(places)
    put = random.choice(LONG) if random.random() < 0.04 else random.choice(texts)
    root = [value]
    match random.randrange(8):
        case 0 if isinstance(container, dict):
            del container[key]
        case 1 if isinstance(container, dict):
            container[random.choice(("", "x", "\ud800", "a" * 1000))] = container.pop(key)
        case 2 if isinstance(container, dict):  # the same key twice
            found = container[key]
            container[key] = _HOLE
            return _dumped(value).replace(json.dumps(_HOLE), f"{json.dumps(found)}, {json.dumps(key)}: {put}")
        case 3 if isinstance(container, list):
            container.insert(key, container[key])
        case 4:
            others, other = random.choice(places)
            container[key] = json.loads(json.dumps(others[other]))  # a copy: nothing may hold itself
        case _:
            if container == root:
                return put
            container[key] = _HOLE
            return _dumped(value).replace(json.dumps(_HOLE), put)
    return _dumped(value)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)


def _places(container: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or position) in nested values; of long lists some."""
    keys = list(container) if isinstance(container, dict) else range(min(len(container), 20))
    for key in keys:
        yield container, key
        if isinstance(container[key], dict | list):
            yield from _places(container[key])
