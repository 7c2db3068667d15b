"""A file is imported for its config without the imports of its code, and is the same module in the end."""

import ast
import importlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest

from hpc.config import late, plugins
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
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "things").mkdir()
    (tmp_path / "things/__init__.py").touch()
    (tmp_path / "things/thing.py").write_text(TEXT)
    (tmp_path / "heavy.py").write_text("class Base: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("things", "things.thing", "things.other", "heavy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(late, "_NAMES", {"things"})
    late.register()
    plugins.forget()
    yield tmp_path
    plugins.forget()


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


CONFIG = """from dataclasses import dataclass
from typing import Literal


@dataclass
class C:
    name: Literal["c"] = "c"
"""
ALIKE = {
    "future annotations": (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from nowhere import S\n"
        "{config}\ndef net(x: S) -> S:\n    return x\n",
        "m.C; print(m.net(1))",
    ),
    "an annotation that is a text": (
        "{config}    kind: 'Kind' = 1\n\nKind = Literal[1, 2]\n",
        "print(hints(m.C)['kind'])",
    ),
    "a constant that is filled": ("S = {{}}\nS['a'] = 3\n{config}    w: int = S['a']\n", "print(m.C.w)"),
    "a constant that is updated": ("S = dict(a=1)\nS.update(a=3)\n{config}    w: int = S['a']\n", "print(m.C.w)"),
    "a function that changes a constant": (
        "W = 1\ndef change():\n    global W\n    W = 8\nchange()\n{config}    w: int = W\n",
        "print(m.C.w)",
    ),
    "a registry by a decorator": (
        "R = []\ndef known(c):\n    R.append(c)\n    return c\n{config}    def n(self):\n        return len(R)\n"
        "@known\nclass N: ...\n",
        "print(m.C().n())",
    ),
    "a getattr of its own": (
        "{config}\nimport json\ndef __getattr__(name):\n    return 42\n",
        "print(m.magic, m.json.__name__, m.magic)",
    ),
    "a constant set from outside": (
        "{config}\nDEPTH = 1\ndef net():\n    return DEPTH\n",
        "m.DEPTH = 5; print(m.net())",
    ),
    "imported again": (
        "{config}\ndef net():\n    return 1\n",
        "print(m.net()); t = open(m.__file__).read(); open(m.__file__, 'w').write(t.replace('return 1', 'return 22'))\n"
        "import importlib; importlib.reload(m); print(m.net()); open(m.__file__, 'w').write(t)",
    ),
    "everything imported": ("{config}\ndef net():\n    return 1\n", "from thing import *; print(net())"),
    "a lambda that calls what comes later": (
        "{config}    def n(self):\n        return F['f'](2)\n\nF = {{'f': lambda x: twice(x)}}\n"
        "def twice(x):\n    return 2 * x\n",
        "print(m.C().n())",
    ),
}


@pytest.mark.parametrize("what", ALIKE)
def test_it_does_as_a_plain_import(what: str, tmp_path: Path) -> None:
    text, code = ALIKE[what]
    (tmp_path / "thing.py").write_text(text.format(config=CONFIG))
    printed = []
    for register in ("", "late.register('thing')\n"):
        script = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom typing import get_type_hints as hints\n"
            f"from hpc.config import late\n{register}import thing as m\n{code}\n"
        )
        done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, check=True)
        printed.append(done.stdout)
    assert printed[0] == printed[1] != ""
