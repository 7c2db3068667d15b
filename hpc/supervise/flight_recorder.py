"""Which rank the others wait for, by the collectives that each has entered: torch's flight recorder.

After a hang every rank writes what its recorder holds, as JSON (hpc/rank/ddp.py). It says for each backend, nccl and
gloo, how many collectives the rank has entered, and how many its device has begun and ended. A collective of NCCL
returns at once, so the stack of a rank shows only that it reads a result, and not which rank lets it wait.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, NamedTuple


class Progress(NamedTuple):
    """The last collectives of a process group that a rank has entered, and that its device has begun and ended."""

    entered: int
    begun: int
    ended: int


class Late(NamedTuple):
    """The rank that the others wait for, or None if all are in the same collective; and the reason in a phrase."""

    rank: int | None
    why: str
    of_program: bool = False
    """Whether it would be so on any node."""


def late(records: Mapping[int, Mapping[str, Any] | None]) -> Late | None:
    """Return whom the ranks wait for, from what each has written; None if the records do not tell.

    A rank that waits in no collective, and has not entered one in which others are, is the one; else a rank that has
    written nothing, as it does not even react; else one that has not entered or not begun what others have.
    """
    answering = {rank: record for rank, record in records.items() if record}
    groups = _groups(answering)
    waiting = {rank for group in groups.values() for rank, each in group.items() if each.entered > each.ended}
    behind = [(key, rank) for key, group in groups.items() for rank in _behind(group, "entered")]
    idle = [(key, rank) for key, rank in behind if rank not in waiting]
    if idle:
        return _not_entered(*idle[0], groups, answering)
    silent = [rank for rank in records if rank not in answering]
    if silent and waiting:
        return Late(silent[0], f"it does not react at all, and {_ranks(waiting)} in a collective")
    if behind:
        return _not_entered(*behind[0], groups, answering)
    for key, group in groups.items():
        for rank in _behind(group, "begun"):
            what = _name(key, group[rank].begun + 1, answering)
            return Late(rank, f"its GPU has not begun {what}, which others have: it is busy with what came before")
    return _in_the_same(groups, answering)


def _in_the_same(groups: "Groups", records: Mapping[int, Mapping[str, Any]]) -> Late | None:
    """Return whether ranks are in different collectives at the same place, or all in the same one."""
    for key, group in groups.items():
        number = max(each.entered for each in group.values())
        if all(each.ended >= number for each in group.values()):
            continue
        names = {rank: _name_by(key, number, records[rank]) for rank in group}
        (usual, n_usual), *others = Counter(name for name in names.values() if name).most_common()
        if others:
            odd = min(rank for rank, name in names.items() if name and name != usual)
            where = f"it is in {names[odd]}, where {_ranks(range(n_usual))} in {usual}"
            return Late(odd, f"{where}: they took another branch", of_program=True)
        return Late(None, f"all are in {usual}, and it does not end: the network between them, or the GPU of one")
    return None


Key = tuple[str, str]
"""A backend, and the name of a process group: "0" is that of all ranks."""
Groups = dict[Key, dict[int, Progress]]
EVERYBODY = "0"


def _groups(records: Mapping[int, Mapping[str, Any]]) -> Groups:
    groups: Groups = {}
    for rank, record in records.items():
        for entry in _entries(record):
            group = groups.setdefault(_key(entry), {})
            before, number = group.get(rank, Progress(0, 0, 0)), entry["collective_seq_id"]
            ended = number if entry.get("retired") or entry.get("state") == "completed" else 0
            begun = number if ended or entry.get("state") == "started" else 0
            group[rank] = Progress(max(before.entered, number), max(before.begun, begun), max(before.ended, ended))
    for (_, name), group in groups.items():
        for rank in records:
            if name == EVERYBODY:
                group.setdefault(rank, Progress(0, 0, 0))
    return groups


def _entries(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the collectives that a rank has recorded; what is not as torch writes it is left out."""
    entries = record.get("entries")
    for entry in entries if isinstance(entries, list) else []:
        if (
            isinstance(entry, dict)
            and isinstance(entry.get("collective_seq_id"), int)
            and isinstance(entry.get("process_group"), list)
            and ":" in str(entry.get("profiling_name"))
            and not entry.get("is_p2p")
        ):
            yield entry


def _key(entry: Mapping[str, Any]) -> Key:
    return str(entry["profiling_name"]).partition(":")[0], str([*entry["process_group"], ""][0])


def _behind(group: Mapping[int, Progress], what: Literal["entered", "begun"]) -> list[int]:
    """Return the ranks that have entered, or begun, the fewest; none if all are equal."""
    counts = {rank: getattr(each, what) for rank, each in group.items()}
    least = min(counts.values())
    return [] if least == max(counts.values()) else sorted(rank for rank, count in counts.items() if count == least)


def _not_entered(key: Key, rank: int, groups: Groups, records: Mapping[int, Mapping[str, Any]]) -> Late:
    group = groups[key]
    n_there = sum(each.entered > group[rank].entered for each in group.values())
    what = _name(key, group[rank].entered + 1, records)
    return Late(rank, f"it has not entered {what}, where {_ranks(range(n_there))}")


def _name(key: Key, number: int, records: Mapping[int, Mapping[str, Any]]) -> str:
    names = filter(None, (_name_by(key, number, record) for record in records.values()))
    return next(names, f"collective {number} of {key[0]}")


def _name_by(key: Key, number: int, record: Mapping[str, Any]) -> str:
    """Return `all_reduce 812 of nccl (25000 Float)`, as a rank has recorded it; empty if it has not."""
    for entry in _entries(record):
        if entry["collective_seq_id"] == number and _key(entry) == key:
            operation = str(entry["profiling_name"]).partition(":")[2]
            sizes, types = (entry.get(f"input_{what}") or [""] for what in ("sizes", "dtypes"))
            shape = "x".join(map(str, sizes[0])) if isinstance(sizes, list) and isinstance(sizes[0], list) else ""
            return f"{operation} {number} of {key[0]} ({f'{shape} {str(types[0]).lower()}'.strip()})"
    return ""


def _ranks(ranks: Collection[int]) -> str:
    return "1 rank waits" if len(ranks) == 1 else f"{len(ranks)} ranks wait"
