"""What the names of files say: the pattern of a study, as `{condition}/S{subject}_{run}.edf`.

A part of a name that is the same everywhere stays as it is. A part that varies becomes a field in braces: the subject,
a session, a run, or a condition, which can be decoded. A part that always goes with another stands again, or is `*`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

HINTS = {
    "subject": ("sub", "subj", "subject", "patient", "pat", "participant", "vp", "vpn", "person", "id", "pp"),
    "session": ("ses", "sess", "session", "day", "visit", "week"),
    "run": ("run", "block", "part", "rec", "recording", "trial", "seg", "segment", "file"),
    "condition": ("task", "cond", "condition", "group", "class", "state", "stim"),
}
"""Words in a name that say what the part after them is."""
LETTERS = {"s": "subject", "p": "subject", "r": "run", "d": "session", "b": "run"}
"""The same of a single letter, where nothing else says more."""
MOST_CONDITIONS = 12
"""Words of more values are names of people, or dates."""
SEPARATORS = r"([/_\-. ]+)"


@dataclass(frozen=True)
class Part:
    """A part of all names: the values in the order of the files, and the text in front of it that stays the same."""

    values: tuple[str, ...]
    before: str = ""
    in_folder: bool = False

    @property
    def distinct(self) -> list[str]:
        return sorted(set(self.values))

    @property
    def is_words(self) -> bool:
        """Whether its values are words, as `rest`, and not numbers or codes as `S01`."""
        return all(re.fullmatch(r"[^\W\d].*", value) and not re.search(r"\d{2}", value) for value in self.distinct)

    @property
    def hint(self) -> str:
        word = re.sub(r"[^a-z]", "", self.before.lower())
        return next((role for role, words in HINTS.items() if word in words), "")


@dataclass(frozen=True)
class Names:
    """The pattern of a study's files, and what is in its fields: `fields["condition"]` are values, a file each."""

    files: str
    fields: dict[str, tuple[str, ...]]
    paths: tuple[str, ...]
    left_out: tuple[str, ...] = ()  # files whose names are of another kind
    roles: dict[str, str] = field(default_factory=dict)  # why each field has its name

    def examples(self, name: str, most: int = 4) -> str:
        counted = Counter(self.fields[name])
        shown = ", ".join(sorted(counted)[:most]) + (" …" if len(counted) > most else "")
        return f"{len(counted)} values ({shown})"


def infer(paths: Sequence[str]) -> Names:
    """Return the pattern that most of these paths follow; all have the same extension."""
    extension = _extension(paths[0])
    if len(paths) == 1:
        above, slash, name = paths[0].rpartition("/")
        why = {"subject": "the only file"}
        pattern = f"{above}{slash}{{subject}}{extension}"
        return Names(pattern, {"subject": (name.removesuffix(extension),)}, tuple(paths), roles=why)
    by_depth = Counter(path.count("/") for path in paths)
    depth = by_depth.most_common(1)[0][0]
    same = [path for path in paths if path.count("/") == depth and _extension(path).lower() == extension.lower()]
    stems = [path.removesuffix(_extension(path)) for path in same]
    kept, parts = _parts(stems)
    same = [same[index] for index in kept]
    left_out = tuple(sorted(set(paths) - set(same)))
    extensions = {_extension(path) for path in same}
    end = extensions.pop() if len(extensions) == 1 else ".*"
    names, why = _roles([part for part in parts if isinstance(part, Part)], len(same))
    fields = {name: part.values for part, name in reversed(names.items()) if name != "*"}
    files = "".join(part if isinstance(part, str) else _braced(names[part]) for part in parts) + end
    return Names(files, fields, tuple(same), left_out, why)


def _braced(name: str) -> str:
    return name if name == "*" else f"{{{name}}}"


def _extension(path: str) -> str:
    match = re.search(r"(\.fif\.gz|\.[A-Za-z0-9]+)$", path)
    return match[1] if match else ""


def _parts(stems: Sequence[str]) -> tuple[list[int], list["str | Part"]]:
    """Return which names are of the usual form, and their parts in order: text that is the same, and what varies."""
    split = [re.split(SEPARATORS, stem) for stem in stems]
    forms = Counter(tuple(pieces[1::2]) for pieces in split)
    form, n = forms.most_common(1)[0]
    if n < len(stems) and (joined := _joined(split)) is not None:
        split, kept = joined, list(range(len(stems)))
    else:
        kept = [index for index, pieces in enumerate(split) if tuple(pieces[1::2]) == form]
        split = [split[index] for index in kept]
    columns: list[tuple[str, ...]] = []
    for column in zip(*split, strict=True):
        columns += _letters_and_digits(column)
    parts: list[str | Part] = []
    n_folders = sum(column[0].count("/") for column in columns if len(set(column)) == 1)
    for column in columns:
        if len(set(column)) == 1:
            if parts and isinstance(parts[-1], str):
                parts[-1] += column[0]
            elif column[0]:
                parts.append(column[0])
            continue
        before = parts[-1] if parts and isinstance(parts[-1], str) else ""
        passed = sum(part.count("/") for part in parts if isinstance(part, str))
        parts.append(Part(column, re.split(r"[/_\-. ]+(?=.)", before)[-1], passed < n_folders))
    return kept, parts


def _joined(split: Sequence[Sequence[str]]) -> list[list[str]] | None:
    """Names of several forms, where the first or the last part is a word of several parts: eyes_open, task.

    The parts of the file's name that all have stay; the others become one.
    """
    fewest = min(len(pieces) for pieces in split)
    from_left = [[*pieces[: fewest - 1], "".join(pieces[fewest - 1 :])] for pieces in split]
    from_right = [
        ["".join(pieces[: len(pieces) - fewest + 1]), *pieces[len(pieces) - fewest + 1 :]] for pieces in split
    ]
    for pieces, place in ((from_left, -1), (from_right, 0)):
        same_form = len({tuple(each[1::2]) for each in pieces}) == 1
        words = Part(tuple(each[place] for each in pieces))
        if same_form and words.is_words and len(words.distinct) <= min(MOST_CONDITIONS, len(split) // 2):
            return pieces
    return None


def _letters_and_digits(column: Sequence[str]) -> list[tuple[str, ...]]:
    """S001R03 is four parts, where all names have letters and digits in this order."""
    pieces = [re.findall(r"\d+|\D+", value) for value in column]
    forms = {tuple(piece[0].isdigit() for piece in each) for each in pieces}
    if len(forms) != 1 or len(pieces[0]) < 2 or len(set(column)) == 1:
        return [tuple(column)]
    return [tuple(part) for part in zip(*pieces, strict=True)]


def _roles(parts: Sequence[Part], n: int) -> tuple[dict[Part, str], dict[str, str]]:
    """Return the field of each part that varies, and why."""
    names: dict[Part, str] = {}
    why: dict[str, str] = {}
    twins: dict[Part, Part] = {}
    free: list[Part] = []
    for part in parts:  # one that always goes with another adds nothing
        twin = next((other for other in free if _go_together(part, other)), None)
        if twin is None:
            free.append(part)
        else:
            twins[part] = twin
    assert free, "several files have the same name"

    def give(part: Part, name: str, reason: str) -> None:
        names[part] = name
        why[name] = reason
        free.remove(part)

    for role in ("subject", "session", "run", "condition"):
        for part in [each for each in free if each.hint == role][:1]:
            give(part, role, f"the names say {part.before.strip('/_-. ')!r} in front of it")
    if "subject" not in why:
        for part in [each for each in free if LETTERS.get(each.before.lower()) == "subject" and not each.is_words][:1]:
            give(part, "subject", f"a number after the letter {part.before}")
    if "subject" not in why:
        codes = [each for each in free if not each.is_words] or free
        part = max(codes, key=lambda each: (len(each.distinct), each.in_folder))
        give(part, "subject", f"the part of the names with the most values, {len(part.distinct)}")
    for part in list(free):
        if part.is_words and len(part.distinct) <= MOST_CONDITIONS and "condition" not in why:
            give(part, "condition", "words that come back for several files")
    numbered = [role for role in ("session", "run") if role not in why]
    if len(free) == 1 and LETTERS.get(free[0].before.lower(), "run") in numbered:
        give(free[0], LETTERS.get(free[0].before.lower(), "run"), "the numbers that are left")
    for part, role in zip(list(free), numbered, strict=False):
        give(part, role, "the numbers that are left, in their order")
    for number, part in enumerate(list(free), 1):
        give(part, f"part{number}", "what else varies")
    names |= {part: names[twin] if part.values == twin.values else "*" for part, twin in twins.items()}
    return names, why


def _go_together(part: Part, other: Part) -> bool:
    pairs = set(zip(part.values, other.values, strict=True))
    return len(pairs) == len(part.distinct) == len(other.distinct)
