"""UIDs as the sets that commands take (RFC 3501 section 9, sequence-set), and their division into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

SET_OCTETS = 7000  # servers need not take command lines above 8000 octets (RFC 2683 section 3.2.1.5)


def uid_sets(uids: Iterable[int], most: int) -> Iterator[tuple[list[int], str]]:
    """Ascending, each at most ``most`` UIDs and ``SET_OCTETS`` long, consecutive ones as a range."""
    batch: list[int] = []
    for uid in sorted(set(uids)):
        batch.append(uid)
        if len(batch) == most or (len(batch) % 100 == 0 and len(_ranges(batch)) > SET_OCTETS - 1200):
            yield batch, _ranges(batch)
            batch = []
    if batch:
        yield batch, _ranges(batch)


def _ranges(uids: list[int]) -> str:
    parts: list[str] = []
    start = previous = uids[0]
    for uid in [*uids[1:], 0]:
        if uid == previous + 1:
            previous = uid
            continue
        parts.append(str(start) if start == previous else f"{start}:{previous}")
        start = previous = uid
    return ",".join(parts)


def batches(sizes: Iterable[tuple[int, int]], most: int, octets: int) -> Iterator[list[int]]:
    """(UID, size) pairs in their order, together at most ``octets`` unless one alone is larger."""
    batch: list[int] = []
    total = 0
    for uid, size in sizes:
        if batch and (len(batch) == most or total + size > octets):
            yield batch
            batch, total = [], 0
        batch.append(uid)
        total += size
    if batch:
        yield batch
