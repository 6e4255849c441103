"""Memory of a process tree, sampled while something else runs. Linux only (/proc)."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

INTERVAL = 0.1  # seconds between two samples
KIB = 1024


def tree(root: int) -> list[int]:
    """Give the ids of `root` and all its descendants; a process that ends meanwhile is left out."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [root]
    for process in found:
        found.extend(children.get(process, ()))
    return found


def proportional_bytes(process: int) -> int:
    """Give the PSS of one process: pages it shares are divided among the sharers. A process that is gone has 0."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * KIB for line in text.splitlines() if line.startswith("Pss:")), 0)


def tree_bytes(root: int) -> int:
    """Give the PSS of a whole process tree."""
    return sum(proportional_bytes(process) for process in tree(root))


class PeakMemory:
    """The highest memory of a process tree inside a `with` block: `baseline` before it, `peak` within, in bytes."""

    def __init__(self, root: int, *, interval: float = INTERVAL) -> None:
        self._root = root
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.baseline = self.peak = tree_bytes(root)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            self.peak = max(self.peak, tree_bytes(self._root))
