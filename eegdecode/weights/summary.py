"""What is in a file, in words and as plain values; and of two, side by side."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eegdecode.weights.files import Found
from eegdecode.weights.matching import Match, match
from eegdecode.weights.pickles import Shape
from hpc.errors import first_of

RUNNING = ("running_mean", "running_var", "num_batches_tracked")
MOST = 12
"""Names that are shown of many; --json has them all."""


def counts(found: Found) -> dict[str, Any]:
    """Tensors, parameters, bytes and types of all, and of each part and list of blocks."""
    shapes = found.shapes
    return {
        "tensors": len(shapes),
        "parameters": _n_parameters(shapes),
        "megabytes": round(sum(shape.n_bytes for shape in shapes.values()) / 1e6, 3),
        "dtypes": dict(Counter(shape.dtype for shape in shapes.values()).most_common()),
        "parts": {name: _n_parameters(part) for name, part in _parts(shapes).items()},
        "blocks": blocks(shapes),
    }


def blocks(shapes: Mapping[str, Shape]) -> dict[str, dict[str, int]]:
    """Lists of blocks that are alike, by name: how many, the parameters of one, the length of most vectors."""
    lists: dict[str, dict[str, dict[str, Shape]]] = {}
    for name, shape in shapes.items():
        words = name.split(".")
        for place, word in enumerate(words[:-1]):
            if place and word.isdecimal():
                of_list = lists.setdefault(".".join(words[:place]), {})
                of_list.setdefault(word, {})[".".join(words[place + 1 :])] = shape
    found: dict[str, dict[str, int]] = {}
    for name, members in lists.items():
        first, *others = members.values()
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if not others or inside or any(other != first for other in others):
            continue
        lengths = Counter(shape.sizes[0] for shape in first.values() if len(shape.sizes) == 1)
        width = {"width": lengths.most_common(1)[0][0]} if lengths else {}
        found[name] = {"n": len(members), "parameters": _n_parameters(first), **width}
    return found


def text(found: Found) -> str:
    """For a terminal."""
    told = counts(found)
    where = f", {found.place}" if found.place else ""
    types = ", ".join(f"{n} x {dtype}" if len(told["dtypes"]) > 1 else dtype for dtype, n in told["dtypes"].items())
    lines = [
        f"{_clean(str(found.path))}",
        f"  {found.form}{_clean(where)}: {told['tensors']} tensors, {told['parameters']:,} parameters, "
        f"{told['megabytes']:.1f} MB, {types}",
    ]
    if found.said:
        lines.append("  said       " + _few(f"{name} {value}" for name, value in found.said.items()))
    if found.beside:
        many = (f"{name}: {n} tensors, {numbers:,} numbers" for name, (n, numbers) in found.beside.items())
        lines.append("  beside     " + _few(many))
    if found.code:
        lines.append("  not run    " + _few(found.code))
    table = [("part", "", "parameters", ""), *((name, "", f"{n:,}", "") for name, n in told["parts"].items())]
    table += [
        (name, f"{block['n']} x", f"{block['parameters']:,}", f"width {block['width']}" if "width" in block else "")
        for name, block in told["blocks"].items()
    ]
    lines += ["", *_columns(table, right=(1, 2)), "", *_columns([("name", "shape", "type"), *_alike(found.shapes)])]
    return "\n".join(lines)


def match_text(name: str, matched: Match, wanted: Mapping[str, Shape]) -> str:
    """What of a file a model would load."""
    n = sum(wanted[loaded].n_values for loaded in matched.loaded)
    total = sum(shape.n_values for shape in wanted.values())
    lines = [
        f"{name} would load {len(matched.loaded)} of its {len(wanted)} tensors, {n:,} of {total:,} numbers"
        f"{matched.renamed}"
    ]
    differ = (f"{key}: {_say(ours)} here, {_say(theirs)} in the file" for key, (ours, theirs) in matched.differ.items())
    for word, names in (
        ("missing", matched.missing),
        ("unexpected", matched.unexpected),
        ("other shape", list(differ)),
    ):
        if names:
            lines.append(f"  {word:<12} {len(names):>4}  {_few(names)}")
    return "\n".join(lines)


def match_values(name: str, matched: Match) -> dict[str, Any]:
    return {
        "model": name,
        "strip": matched.strip,
        "add": matched.add,
        "loaded": matched.loaded,
        "missing": list(matched.missing),
        "unexpected": list(matched.unexpected),
        "differ": {key: {"model": ours.sizes, "file": theirs.sizes} for key, (ours, theirs) in matched.differ.items()},
    }


def values(found: Found) -> dict[str, Any]:
    """All of it, for scripts."""
    return {
        "path": str(found.path),
        "form": found.form,
        "place": found.place,
        **counts(found),
        "beside": {name: {"tensors": n, "numbers": numbers} for name, (n, numbers) in found.beside.items()},
        "said": found.said,
        "code": list(found.code),
        "shapes": {name: {"shape": shape.sizes, "dtype": shape.dtype} for name, shape in found.shapes.items()},
    }


def compared(one: Found, other: Found) -> str:
    """Two files side by side: counts, parts, blocks, and which names they share."""
    matched = match(other.shapes, one.shapes)
    first, second = counts(one), counts(replace(other, shapes=_renamed(other.shapes, matched)))
    rows: list[tuple[str, ...]] = [("", one.path.name, other.path.name), ("form", one.form, other.form)]
    rows += [(word, f"{first[word]:,}", f"{second[word]:,}") for word in ("tensors", "parameters", "megabytes")]
    rows.append(("types", *(", ".join(told["dtypes"]) for told in (first, second))))
    for word, say in (("parts", lambda n: f"{n:,}"), ("blocks", _block)):
        for name in {**first[word], **second[word]}:
            rows.append((name, *(say(told[word][name]) if name in told[word] else "-" for told in (first, second))))
    n = len(matched.loaded)
    lines = [*_columns(rows, right=(1, 2)), ""]
    lines.append(f"{n} tensors have the same name and shape in both{matched.renamed}")
    differ = [f"{key}: {_say(ours)} and {_say(theirs)}" for key, (ours, theirs) in matched.differ.items()]
    for word, names in (
        ("other shape", differ),
        (f"only in {one.path.name}", matched.missing),
        (f"only in {other.path.name}", matched.unexpected),
    ):
        if names:
            lines.append(f"  {_clean(word)}: {len(names)}  {_few(names)}")
    return "\n".join(lines)


def _renamed(shapes: Mapping[str, Shape], matched: Match) -> dict[str, Shape]:
    """By the names of the file it is compared with, where it has the prefix that those lack."""
    strip, add = matched.strip, matched.add
    return {add + name.removeprefix(strip) if name.startswith(strip) else name: s for name, s in shapes.items()}


def _block(told: Mapping[str, int]) -> str:
    return f"{told['n']} x {told['parameters']:,}" + (f", width {told['width']}" if "width" in told else "")


def _n_parameters(shapes: Mapping[str, Shape]) -> int:
    """Without the running means of norms, which are not learned."""
    return sum(shape.n_values for name, shape in shapes.items() if name.rpartition(".")[2] not in RUNNING)


def _parts(shapes: Mapping[str, Shape]) -> dict[str, dict[str, Shape]]:
    parts: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        parts.setdefault(name.partition(".")[0], {})[name] = shape
    return parts


def _alike(shapes: Mapping[str, Shape]) -> list[tuple[str, str, str]]:
    """A line for each tensor; those that differ in the number of their block only share one."""
    lines: dict[tuple[str, Shape], list[str]] = {}
    for name, shape in shapes.items():
        pattern = ".".join("*" if word.isdecimal() else word for word in name.split("."))
        lines.setdefault((pattern, shape), []).append(name)
    return [
        (names[0] if len(names) == 1 else f"{pattern}  ({len(names)} x)", _say(shape), shape.dtype)
        for (pattern, shape), names in lines.items()
    ]


def _say(shape: Shape) -> str:
    return " x ".join(map(str, shape.sizes)) or "one number"


def _columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    rows = [[_clean(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _few(words: Iterable[str]) -> str:
    return first_of([_clean(word) for word in words], MOST)


def _clean(text: str) -> str:
    """What a stranger wrote into a file must not steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])
