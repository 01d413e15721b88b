"""What the command line lets one choose, for every claim alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.families import FAMILIES
from benchmarks.harness import Effort


@dataclass(frozen=True)
class Options:
    """Choices of one run.

    Parameters
    ----------
    size
        Side of the square pictures; None for each claim's own.
    families
        Weight families of the claims that go through them.
    peers
        Names of the peers to run; empty for all that are installed.
    effort
        Repetitions and time limits.
    """

    size: int | None = None
    families: tuple[str, ...] = FAMILIES
    peers: tuple[str, ...] = ()
    effort: Effort = field(default_factory=Effort)

    def side(self, default: int) -> int:
        """The side asked for, else the claim's own."""
        return self.size or default
