"""What a checker found: problems, notes, and how much was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: in which file or directory, at which byte (None where that means nothing), and what."""

    path: Path
    position: int | None
    what: str

    def __str__(self) -> str:
        where = "" if self.position is None else f" at byte {self.position}"
        return f"{self.path}{where}: {self.what}"


@dataclass(slots=True)
class Report:
    """Problems should not be: records are lost, or something says what is not so.  Notes may be: what
    the next start puts right by itself after a crash, leftovers, files that nobody knows."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    partitions: int = 0
    segments: int = 0
    batches: int = 0
    records: int = 0
    bytes: int = 0
    """Bytes of ``.log`` files."""

    def problem(self, path: Path | str, what: str, position: int | None = None) -> None:
        """Add a problem."""
        self.problems.append(Problem(Path(path), position, what))

    def note(self, path: Path | str, what: str, position: int | None = None) -> None:
        """Add a note."""
        self.notes.append(Problem(Path(path), position, what))

    def __iter__(self) -> Iterator[tuple[str, Problem]]:
        """Everything found: ``problem`` or ``note``, and what it is."""
        yield from (("problem", each) for each in self.problems)
        yield from (("note", each) for each in self.notes)
