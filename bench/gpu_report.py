"""What `python -m bench gpu` has measured: each figure is printed and in the file as soon as it is there."""

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.compare import Goal
from hpc.runs.rundir import read_json, write_json


@dataclass
class Report:
    """The figures so far, and how each section ended. Sections in processes of their own continue the same file, one
    after the other."""

    path: Path
    section: str = ""
    contents: dict[str, Any] = field(default_factory=lambda: {"sections": {}, "rows": []})

    @classmethod
    def begin(cls, path: Path, **about: object) -> "Report":
        """Begin the file anew. Raises ValueError for a device or a folder: the file is renamed into its place, and who
        may do so would put it in place of /dev/null."""
        if path.exists() and not path.is_file():
            raise ValueError(f"--out is a file, new or old, but {path} is something else: name another one")
        report = cls(path)
        began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        report.contents = {"began": began, "host": os.uname().nodename, **about, **report.contents}
        report._write()
        return report

    @classmethod
    def go_on(cls, path: Path, section: str) -> "Report":
        """Continue the file, within a section."""
        report = cls(path, section)
        report.reread()
        return report

    def reread(self) -> None:
        """Take what another process has added."""
        contents = read_json(self.path)
        assert contents is not None, self.path
        self.contents = contents

    def add(self, what: str, value: float | str, unit: str = "", bar: float | None = None, least: bool = False) -> None:
        """Add a figure, or a word. `bar`: the goal, the most it may be, or the `least`."""
        row: dict[str, Any] = {"section": self.section, "what": what, "value": value, "unit": unit}
        text = value if isinstance(value, str) else f"{value:.4g}"
        goal = ""
        if bar is not None:
            assert not isinstance(value, str)
            ok = Goal(value, bar, least).ok
            row |= {"bar": bar, "at_least": least, "ok": ok}
            goal = f" ({'>=' if least else '<='} {bar:g})"
        self.contents["rows"].append(row)
        self._write()
        word = {True: "ok", False: "SHORT"}.get(row.get("ok", ""), "")
        print(f"{word:<6}{what}: {text}{' ' * bool(unit)}{unit}{goal}", flush=True)

    def value(self, what: str) -> float | None:
        """Return a figure that an earlier section has added; None if there is none."""
        values = [row["value"] for row in self.contents["rows"] if row["what"] == what]
        return values[-1] if values and not isinstance(values[-1], str) else None

    def end_section(self, name: str, state: str, seconds: float) -> None:
        """Note how a section ended: `done`, or why not."""
        self.contents["sections"][name] = {"state": state, "seconds": round(seconds, 1)}
        self._write()

    @property
    def shortfalls(self) -> list[str]:
        """Sections that did not end well, and figures that fall short."""
        sections: Mapping[str, Mapping[str, Any]] = self.contents["sections"]
        rows = [row for row in self.contents["rows"] if not row.get("ok", True)]
        return [
            *(f"{name}: {how['state']}" for name, how in sections.items() if how["state"] != "done"),
            *(f"{row['section']}, {row['what']}: {row['value']:.4g}" for row in rows),
        ]

    def _write(self) -> None:
        write_json(self.path, self.contents)
