"""Lists of many things in one sentence."""

from collections.abc import Iterable

SHOWN = 5  # things named in one message


def listing(items: Iterable[object], total: int | None = None) -> str:
    """`a, b, c, d, e and 7 more`; `total` where `items` are only the first of them."""
    items = list(items)
    total = len(items) if total is None else total
    shown = ", ".join(str(item) for item in items[:SHOWN])
    return shown + (f" and {total - SHOWN:,} more" if total > SHOWN else "")
