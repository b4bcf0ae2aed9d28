"""A registry finds components by name among those that installed packages announce under an entry-point group.

Parsers and detectors are such components; docs/parsers.md and docs/regions.md show how another package adds one.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Generic, TypeVar

Component = TypeVar("Component")


@dataclass(frozen=True)
class Registry(Generic[Component]):
    """The components of one kind. A component is imported when it is built, so listing the names costs nothing."""

    kind: str
    """what messages call a component, for example ``parser``"""
    group: str
    """the entry-point group under which packages announce the components' classes"""

    def names(self) -> list[str]:
        """The names of all installed components, sorted."""
        return sorted(entry_points(group=self.group).names)

    def get(self, name: str, **options: object) -> Component:
        """Builds the component ``name`` with its own options.

        Raises:
            ValueError: no installed package offers a component of that name.
            ImportError: its module, or a package that the module needs, cannot be imported.
        """
        for entry in entry_points(group=self.group, name=name):
            try:
                make = entry.load()
            except (ImportError, RuntimeError) as error:  # compiled code for another version raises the latter
                raise ImportError(f"the {self.kind} {name!r} cannot be imported: {error}") from error
            component: Component = make(**options)
            return component
        raise ValueError(f"there is no {self.kind} {name!r}; installed are: {', '.join(self.names()) or 'none'}")
