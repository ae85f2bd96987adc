"""What a run of the checks found."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "expected", "not applicable"]

_WIDTH = 100


class ConformanceError(AssertionError):
    """Something does not keep the contract; the text says which check, and the numbers."""


@dataclass(frozen=True, slots=True)
class Row:
    """One check of one object."""

    check: str
    status: Status
    message: str  # why it failed, why that was expected, or why it does not apply
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one object; `str(report)` is a table."""

    name: str
    kind: str
    rows: tuple[Row, ...]

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows that failed without being expected to, or passed although expected to fail."""
        return tuple(row for row in self.rows if row.status == "failed")

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def seconds(self) -> float:
        """Time of all checks."""
        return sum(row.seconds for row in self.rows)

    def count(self, status: Status) -> int:
        """Number of rows with a status."""
        return sum(row.status == status for row in self.rows)

    def raise_failures(self) -> None:
        """Stop if something failed.

        Raises:
            ConformanceError: with the failed rows.
        """
        if self.failed:
            raise ConformanceError(str(self))

    def as_dict(self) -> dict[str, object]:
        """Plain containers, for JSON."""
        rows = [
            {"check": r.check, "status": r.status, "message": r.message, "seconds": r.seconds}
            for r in self.rows
        ]
        return {"name": self.name, "kind": self.kind, "ok": self.ok, "rows": rows}

    def __str__(self) -> str:
        """Name, verdict, one line per check, and what the failed ones said."""
        wide = max((len(row.check) for row in self.rows), default=0)
        lines = [f"{self.kind} {self.name}: {self._verdict()}"]
        for row in self.rows:
            lines.append(f"  {row.check:<{wide}}  {row.status:<14}  {row.seconds * 1e3:6.0f} ms")
            if row.message:
                lines += textwrap.wrap(
                    row.message, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
                )
        return "\n".join(lines)

    def _verdict(self) -> str:
        names: tuple[Status, ...] = ("failed", "passed", "expected", "not applicable")
        counts = [f"{self.count(name)} {name}" for name in names if self.count(name)]
        return f"{', '.join(counts) or 'no checks'} in {self.seconds:.1f} s"
