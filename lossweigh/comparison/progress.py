"""How far a comparison has come, on one line."""

from __future__ import annotations

import sys
import time


class Progress:
    """Counts runs on the standard error stream.

    Args:
        total: How many runs there are.
        shown: Whether to print at all.
    """

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.shown = total, shown
        self.begin = time.perf_counter()
        self.earlier = self.done = 0

    def start(self, done: int) -> None:
        """Shows the bar, with as many runs as an earlier call has finished."""
        self.earlier = self.done = done
        self._print()

    def advance(self) -> None:
        """One run more has ended."""
        self.done += 1
        self._print()

    def close(self) -> None:
        if self.shown:
            sys.stderr.write("\n")

    def _print(self) -> None:
        if not self.shown:
            return
        width = 30
        full = width * self.done // max(self.total, 1)
        bar = "#" * full + "." * (width - full)
        line = f"\r[{bar}] {self.done} of {self.total} runs{self._left()}"
        sys.stderr.write(f"{line:<79}")
        sys.stderr.flush()

    def _left(self) -> str:
        just = self.done - self.earlier
        if not just or self.done == self.total:
            return ""
        seconds = (time.perf_counter() - self.begin) / just * (self.total - self.done)
        if seconds < 90:
            return f", about {seconds:.0f} s left"
        if seconds < 5400:
            return f", about {seconds / 60:.0f} min left"
        return f", about {seconds / 3600:.1f} h left"
