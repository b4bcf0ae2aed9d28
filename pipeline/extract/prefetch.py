"""Does work ahead of its use, and puts pictures into batches before they are decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar


class Shaped(Protocol):
    """Pixels, or something that will become pixels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The height, the width and the channels."""
        ...

    @property
    def nbytes(self) -> int:
        """The size of all pixels in bytes."""
        ...


T = TypeVar("T")
U = TypeVar("U")
P = TypeVar("P", bound=Shaped)


def ahead(work: Callable[[T], U], items: Iterable[T], *, threads: int) -> Iterator[U]:
    """Works like ``map``, but threads do the work while the results are used, at most two items a thread ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[U]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def by_shape(pictures: Iterable[tuple[T, P]], size: int, held_bytes: int) -> Iterator[list[tuple[T, P]]]:
    """Yields batches of at most ``size`` pictures of one shape.

    The batches depend only on the pictures and their order. Pictures of more than ``held_bytes`` do not wait for others
    of their shape: the group that has waited longest is then yielded as it is.
    """
    groups: dict[tuple[int, ...], list[tuple[T, P]]] = {}
    held = 0
    for key, pixels in pictures:
        group = groups.setdefault(pixels.shape, [])
        group.append((key, pixels))
        held += pixels.nbytes
        full = [pixels.shape] if len(group) == size else []
        while full or held > held_bytes:
            batch = groups.pop(full.pop() if full else next(iter(groups)))
            held -= sum(waiting.nbytes for _, waiting in batch)
            yield batch
    yield from groups.values()
