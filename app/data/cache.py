"""Answers that are kept: the same question is not asked twice of the same file, nor without an answer while it is loaded."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """Values by key, each with its size [bytes]; those unused for longest go when there are more than `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._n_bytes = 0
        self._values: OrderedDict[Hashable, tuple[_T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> _T | None:
        """The value that was last put under `key`, unless it had to go."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: _T, n_bytes: int) -> None:
        """Keep the value instead of the one before."""
        with self._lock:
            self._n_bytes -= self._values.pop(key, (None, 0))[1]
            self._values[key] = (value, n_bytes)
            self._n_bytes += n_bytes
            while self._n_bytes > self._most_bytes:
                self._n_bytes -= self._values.popitem(last=False)[1][1]
