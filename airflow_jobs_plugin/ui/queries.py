"""What of a list is asked for, as an address says it: searched, filtered, sorted, paged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Query:
    """Base of the lists' own. Fields are parameters of the address; what makes no sense there is left out."""

    by_default: ClassVar[str]
    """The column by which it is sorted if nothing is said."""
    q: str | None
    sort: str
    """A column; with a dash in front, the other way round."""
    page: int

    @property
    def order(self) -> tuple[str, bool]:
        """The column, and whether it descends."""
        return self.sort.removeprefix("-"), self.sort.startswith("-")

    def query(self, **changed: Any) -> dict[str, Any]:
        """As parameters of an address, some of them changed; those that say nothing left out."""
        found = {**self.__dict__, **changed}
        defaults = {"sort": self.by_default, "page": 1}
        return {name: value for name, value in found.items() if value != defaults.get(name)}

    def sorted_by(self, column: str) -> dict[str, Any]:
        """The parameters after a click on a column's head: its order, or the other way round."""
        return self.query(sort=f"-{column}" if self.sort == column else column, page=1)
