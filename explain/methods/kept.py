"""Results that are asked for again and again, kept while they are not too large together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

NUMBERS = 1 << 22  # that one function's results may hold: 32 MiB of float64

Result = TypeVar("Result")


def kept(size: Callable[[Any], int]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Keep a function's last results, the newest whatever its size, the others while all hold at most `NUMBERS`.

    `size` counts the numbers of a result and of what it was made from. Arguments are positional and hashable.
    """

    def keeping(function: Callable[..., Result]) -> Callable[..., Result]:
        found: OrderedDict[Hashable, Result] = OrderedDict()
        lock = threading.Lock()

        @wraps(function)
        def asked(*arguments: Hashable) -> Result:
            with lock:
                if arguments in found:
                    found.move_to_end(arguments)
                    return found[arguments]
            result = function(*arguments)
            with lock:
                found[arguments] = result
                while len(found) > 1 and sum(map(size, found.values())) > NUMBERS:
                    found.popitem(last=False)
            return result

        return asked

    return keeping
