"""How many requests are on their way at once: one more as long as all goes well, half as many when it does not.

Additive increase and multiplicative decrease is what shares a line, or a limit, fairly among those who cannot see each
other; see RFC 5681 (https://www.rfc-editor.org/rfc/rfc5681, section 3.1).
"""

from __future__ import annotations

import math
import threading


class Window:
    """The most requests at once. Faults may be told from any thread.

    :param most: that it ever lets go; it begins with so many.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._size = float(most)
        self._halved_at = -math.inf
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """How many requests may be on their way now, one at least."""
        return int(self._size)

    def succeed(self) -> None:
        """Take in an answer: as many of them as the window is large make room for one request more."""
        with self._lock:
            self._size = min(self._most, self._size + 1 / self._size)

    def fail(self, began: float, now: float) -> None:
        """Take in a fault or a rate limit.

        :param began: when the request was made. Those that were on their way together count once.
        :param now: the present instant, on the same clock.
        """
        with self._lock:
            if began >= self._halved_at:
                self._size = max(1.0, self._size / 2)
                self._halved_at = now
