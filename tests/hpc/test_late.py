"""A file is imported for its config without the imports of its code, and is the same module in the end."""

import ast
import importlib
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest

from hpc.config import late
from hpc.config.choices import Choices, kinds, named, names

TEXT = '''"""A thing."""

from dataclasses import dataclass
from math import pi, tau
from typing import Literal

import heavy
from heavy import Base as B

HALF = 0.5
SIZE = 3


def check(value: float) -> None:
    if value < HALF:
        raise ValueError(f"{value} is below {HALF}")


@dataclass(frozen=True)
class Thing:
    """Something."""

    name: Literal["thing"] = "thing"
    base: float = tau / 2

    def __post_init__(self) -> None:
        check(self.base)


class Code(B):
    size = SIZE
    angle = pi


def loaded() -> bool:
    heavy = "local"
    return bool(heavy)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "things").mkdir()
    (tmp_path / "things/__init__.py").touch()
    (tmp_path / "things/thing.py").write_text(TEXT)
    (tmp_path / "heavy.py").write_text("class Base: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("things", "things.thing", "things.other", "heavy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(late, "_PACKAGES", {"things"})
    late.register()
    return tmp_path


def thing() -> ModuleType:
    return importlib.import_module("things.thing")


def test_the_config_comes_without_what_the_code_imports(folder: Path) -> None:
    kind = Choices("nothing", package="things")["thing"]
    assert kind().base == pytest.approx(3.14159, abs=1e-5) and "heavy" not in sys.modules
    with pytest.raises(ValueError, match="0.1 is below 0.5"):
        kind(base=0.1)
    code = thing().Code
    assert "heavy" in sys.modules and (code.size, code.angle > 3) == (3, True)
    assert thing().Thing is kind and pickle.loads(pickle.dumps(kind())) == kind()
    assert code.__module__ == "things.thing" and thing().loaded()


def test_names_are_known_before_any_is_imported(folder: Path) -> None:
    (folder / "things/other.py").write_text(TEXT.replace('"thing"', '"other"'))
    kind = Annotated[object, Choices("nothing", package="things")]
    for each in (kind, kind | None, tuple[kind, ...]):  # type: ignore[valid-type, operator]
        assert names(each) == ("other", "thing")
        assert "things.other" not in sys.modules
    assert named(kind, "thing").name == "thing" and "things.other" not in sys.modules
    assert named(kind, "nothing") is None
    assert names(kind) == tuple(each.name for each in kinds(kind)) and "things.other" in sys.modules
    assert "heavy" not in sys.modules


def test_it_is_what_a_plain_import_makes(folder: Path) -> None:
    names = set(dir(thing()))
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); import things.thing as t; print(*vars(t))"
    plain = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert names == set(plain)


def test_a_name_that_is_not_there_is_an_attribute_error(folder: Path) -> None:
    with pytest.raises(AttributeError, match=r"module 'things.thing' has no attribute 'cod'"):
        assert thing().cod
    assert not hasattr(thing(), "cod")  # complete by now


def test_what_fails_in_its_code_fails_when_the_code_is_asked_for_and_again(folder: Path) -> None:
    (folder / "heavy.py").write_text("raise RuntimeError('no GPU')\n")
    assert thing().Thing().name == "thing"
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no GPU"):
            assert thing().Code
    (folder / "heavy.py").write_text("class Base: ...\n")
    assert thing().Code.size == 3


def test_threads_that_ask_at_once_run_it_once(folder: Path) -> None:
    (folder / "heavy.py").write_text("import time\ntime.sleep(0.2)\nclass Base: ...\n")
    text = TEXT + "\nimport things\nthings.runs = getattr(things, 'runs', 0) + 1\n"
    (folder / "things/thing.py").write_text(text)
    found: list[type] = []
    threads = [threading.Thread(target=lambda: found.append(thing().Code)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert importlib.import_module("things").runs == 1


def test_a_file_without_a_config_runs_at_once(folder: Path) -> None:
    (folder / "things/plain.py").write_text("import heavy\nX = 1\n")
    assert importlib.import_module("things.plain").X == 1 and "heavy" in sys.modules


def test_statements_are_parted_by_what_configs_need() -> None:
    first, rest = late.split(ast.parse(TEXT))
    assert [ast.unparse(each).splitlines()[0] for each in rest] == [
        "from math import pi", "import heavy", "from heavy import Base as B", "SIZE = 3", "class Code(B):",
        "def loaded() -> bool:",
    ]  # fmt: skip
    assert len(first) + len(rest) == 13
