"""Summarise a file of weights, as text and as plain values; and compare two."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eegdecode.weights.files import WeightsFile
from eegdecode.weights.matching import Match, match
from eegdecode.weights.pickles import Shape
from hpc import media
from hpc.errors import first_of

RUNNING = ("running_mean", "running_var", "num_batches_tracked")
MOST = 12
"""Names that are shown at most; --json has all."""


def counts(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Tensors, parameters, bytes and types, in total and for each part and list of blocks."""
    parts: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        parts.setdefault(name.partition(".")[0], {})[name] = shape
    return {
        "tensors": len(shapes),
        "parameters": _n_parameters(shapes),
        "megabytes": round(sum(shape.n_bytes for shape in shapes.values()) / 1e6, 3),
        "dtypes": dict(Counter(shape.dtype for shape in shapes.values()).most_common()),
        "parts": {name: _n_parameters(part) for name, part in parts.items()},
        "blocks": blocks(shapes),
    }


def blocks(shapes: Mapping[str, Shape]) -> dict[str, dict[str, int]]:
    """Lists of equal blocks, by name: their number, the parameters of one, and the most common vector length."""
    lists: dict[str, dict[str, dict[str, Shape]]] = {}
    for name, shape in shapes.items():
        words = name.split(".")
        for place, word in enumerate(words[:-1]):
            if place and word.isdecimal():
                of_list = lists.setdefault(".".join(words[:place]), {})
                of_list.setdefault(word, {})[".".join(words[place + 1 :])] = shape
    repeated: dict[str, dict[str, int]] = {}
    for name, members in lists.items():
        first, *others = members.values()
        inside = any(name.startswith(f"{outer}.") for outer in repeated)
        if not others or inside or any(other != first for other in others):
            continue
        lengths = Counter(shape.sizes[0] for shape in first.values() if len(shape.sizes) == 1)
        width = {"width": lengths.most_common(1)[0][0]} if lengths else {}
        repeated[name] = {"n": len(members), "parameters": _n_parameters(first), **width}
    return repeated


def text(file: WeightsFile) -> str:
    """The summary for a terminal."""
    figures = counts(file.shapes)
    dtypes = figures["dtypes"]
    types = ", ".join(f"{n} x {dtype}" for dtype, n in dtypes.items()) if len(dtypes) > 1 else "".join(dtypes)
    lines = [
        f"{_clean(str(file.path))}",
        f"  {file.form}{_clean(f', {file.place}' if file.place else '')}: {figures['tensors']} tensors, "
        f"{figures['parameters']:,} parameters, {figures['megabytes']:.1f} MB, {types}",
    ]
    metadata = [f"{name} {value}" for name, value in file.metadata.items()]
    others = [f"{name}: {n} tensors, {numbers:,} values" for name, (n, numbers) in file.other_tensors.items()]
    for word, contents in (("metadata", metadata), ("other", others), ("not run", file.code)):
        if contents:
            lines.append(f"  {word:<10} {_few(contents)}")
    table = [("part", "", "parameters", ""), *((name, "", f"{n:,}", "") for name, n in figures["parts"].items())]
    table += [
        (name, f"{block['n']} x", f"{block['parameters']:,}", f"width {block['width']}" if "width" in block else "")
        for name, block in figures["blocks"].items()
    ]
    lines += ["", *_columns(table, right=(1, 2)), "", *_columns([("name", "shape", "type"), *_alike(file.shapes)])]
    return "\n".join(lines)


def match_text(name: str, matched: Match, wanted: Mapping[str, Shape]) -> str:
    """The parameters of a file that a model would load."""
    n = sum(wanted[loaded].n_values for loaded in matched.loaded)
    total = sum(shape.n_values for shape in wanted.values())
    lines = [
        f"{name} would load {len(matched.loaded)} of its {len(wanted)} tensors, {n:,} of {total:,} values"
        f"{f' with start.prefix={matched.strip}' if matched.strip else ''}"
    ]
    differ = [f"{key}: {_say(ours)} here, {_say(theirs)} in the file" for key, (ours, theirs) in matched.differ.items()]
    for word, names in (("missing", matched.missing), ("unexpected", matched.unexpected), ("other shape", differ)):
        if names:
            lines.append(f"  {word:<12} {len(names):>4}  {_few(names)}")
    return "\n".join(lines)


def match_values(name: str, matched: Match) -> dict[str, Any]:
    return {
        "model": name,
        "prefix": matched.strip,
        "loaded": matched.loaded,
        "missing": list(matched.missing),
        "unexpected": list(matched.unexpected),
        "differ": {key: {"model": ours.sizes, "file": theirs.sizes} for key, (ours, theirs) in matched.differ.items()},
    }


def values(file: WeightsFile) -> dict[str, Any]:
    """The summary as plain values, for scripts."""
    return {
        "path": str(file.path),
        "form": file.form,
        "place": file.place,
        **counts(file.shapes),
        "beside": {name: {"tensors": n, "numbers": numbers} for name, (n, numbers) in file.other_tensors.items()},
        "said": file.metadata,
        "code": list(file.code),
        "shapes": {name: {"shape": shape.sizes, "dtype": shape.dtype} for name, shape in file.shapes.items()},
    }


def compared(one: WeightsFile, other: WeightsFile) -> str:
    """Two files side by side: counts, parts, blocks, and which names they share."""
    matched = match(other.shapes, one.shapes)
    both = counts(one.shapes), counts({matched.name_of(name): shape for name, shape in other.shapes.items()})
    rows: list[tuple[str, ...]] = [("", one.path.name, other.path.name), ("form", one.form, other.form)]
    rows += [(word, *(f"{figures[word]:,}" for figures in both)) for word in ("tensors", "parameters", "megabytes")]
    rows.append(("types", *(", ".join(figures["dtypes"]) for figures in both)))
    for word, say in (("parts", lambda n: f"{n:,}"), ("blocks", _block)):
        for name in {**both[0][word], **both[1][word]}:
            rows.append((name, *(say(figures[word][name]) if name in figures[word] else "-" for figures in both)))
    lines = [*_columns(rows, right=(1, 2)), ""]
    lines.append(f"{len(matched.loaded)} tensors have the same name and shape in both{matched.renamed}")
    for word, names in (
        ("other shape", [f"{key}: {_say(ours)} and {_say(theirs)}" for key, (ours, theirs) in matched.differ.items()]),
        (f"only in {one.path.name}", matched.missing),
        (f"only in {other.path.name}", matched.unexpected),
    ):
        if names:
            lines.append(f"  {_clean(word)}: {len(names)}  {_few(names)}")
    return "\n".join(lines)


def _block(block: Mapping[str, int]) -> str:
    return f"{block['n']} x {block['parameters']:,}" + (f", width {block['width']}" if "width" in block else "")


def _n_parameters(shapes: Mapping[str, Shape]) -> int:
    """The number of parameters, without the running statistics of norms, which are not learned."""
    return sum(shape.n_values for name, shape in shapes.items() if name.rpartition(".")[2] not in RUNNING)


def _alike(shapes: Mapping[str, Shape]) -> list[tuple[str, str, str]]:
    """A line for each tensor; tensors that differ only in their block's number share one."""
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
    return media.one_line(text[:200])
