"""The current policy file: read whole, or not at all; a bad file never replaces a good one."""

from __future__ import annotations

import threading
from pathlib import Path

from broker.config import Config, ConfigError, Problem
from broker.policy_file.build import build


def load(path: Path) -> Config:
    """Read and check a policy file. Raises ConfigError with every problem found."""
    return build(path)


class ConfigHolder:
    """The current configuration of the file at `path`. Call it to get it; `reload` swaps it whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._current = load(path)

    def __call__(self) -> Config:
        return self._current

    @property
    def current(self) -> Config:
        return self._current

    def changed(self) -> bool:
        """Whether the file looks different from when it was last read, well or badly."""
        return _stamp(self.path) != self._stamp

    def reload(self) -> list[Problem]:
        """Read the file again. Problems mean that the former configuration stays."""
        with self._lock:
            self._stamp = _stamp(self.path)
            try:
                self._current = load(self.path)
            except ConfigError as error:
                return error.problems
        return []


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
