"""The accounts of a pack: what became of every image and every caption that went in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from parsers.command import InputError
from shards.storage.files import AnyPath, read_record, write_record

FILE = "accounts.json"


class Outcome(StrEnum):
    """What may become of an image, and with it of its captions."""

    PACKED = "packed"
    HELD_OUT = "held out"
    EXCLUDED = "excluded"
    NO_REGIONS = "no regions"
    NO_CAPTIONS = "no captions"
    REJECTED = "rejected"


FOUND_BY_WORKERS = (Outcome.PACKED, Outcome.HELD_OUT, Outcome.REJECTED)
"""The outcomes that are known only when an image is packed. The join knows the others beforehand."""


@dataclass(frozen=True)
class Account:
    """How many images, or captions, had which outcome."""

    total: int
    kinds: Mapping[Outcome, int]
    """counts by outcome, which add up to ``total`` once the workers' are among them"""


def write_accounts(out: AnyPath, accounts: Mapping[str, Account]) -> None:
    """Writes the accounts of ``images`` and ``captions`` into the folder of the pack."""
    record = {what: asdict(account) for what, account in accounts.items()}
    write_record(record, out / FILE)


def read_accounts(out: AnyPath) -> dict[str, Account]:
    """Reads what `write_accounts` wrote."""
    return {
        what: Account(record["total"], {Outcome(name): count for name, count in record["kinds"].items()})
        for what, record in read_record(out / FILE).items()
    }


def close_accounts(out: AnyPath, found: Counter[str]) -> None:
    """Adds what the workers counted, and checks that nothing was lost.

    Args:
        out: the folder of the pack, with the accounts of the join.
        found: the statistics of all parts; "images packed" counts the images that were packed, and so on.

    Raises:
        InputError: the outcomes do not add up, which is an error of this program.
    """
    accounts = read_accounts(out)
    for what, account in accounts.items():
        kinds = dict(account.kinds) | {outcome: found[f"{what} {outcome}"] for outcome in FOUND_BY_WORKERS}
        if sum(kinds.values()) != account.total:
            counts = ", ".join(f"{count:,} {outcome}" for outcome, count in kinds.items())
            raise InputError(f"{out}: of {account.total:,} {what}, {counts} are accounted for; please report this")
        accounts[what] = Account(account.total, kinds)
    write_accounts(out, accounts)
