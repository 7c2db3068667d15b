"""Finds recipes, the config files of installed packages, by name: `hpc pipeline demo`, `hpc train motor-eegnet`.

    [options.entry_points]
    hpc.recipes =
        eegdecode = eegdecode:RECIPES

RECIPES is a folder of YAML files; a package of your own adds its recipes the same way. A file of yours in `configs/`
goes before one of the same name.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

from hpc.config import plugins
from hpc.errors import ConfigError, did_you_mean

HERE = Path("configs")
DEFAULT = "default"
"""The recipe that is used if no file is named."""
SITES = "site"
"""The folder of site profiles in `configs/`; they are not recipes."""
PROTOCOLS = "protocols"
"""The folder of protocols (hpc/plan/protocol.py); they are no recipes either, as `bench` runs them."""


@functools.cache
def _folders() -> dict[str, Path]:
    """Return the folder of each package that has recipes, by the package's name."""
    folders = {}
    for package, where in plugins.points("hpc.recipes").items():
        try:
            folders[package] = Path(plugins.load(where))
        except ConfigError as error:
            raise ConfigError(f"the recipes of {package} cannot be found: {error}") from error
    return folders


def every() -> Mapping[str, Path]:
    """Return all recipes by name; those in `configs/` win. If two packages use the same name, it is `PACKAGE/NAME`."""
    owners: dict[str, list[str]] = {}
    for package, recipes in _of_packages().items():
        for name in recipes:
            owners.setdefault(name, []).append(package)
    by_name = {
        name if len(packages) == 1 else f"{package}/{name}": _of_packages()[package][name]
        for name, packages in owners.items()
        for package in packages
    }
    by_name |= _in(HERE)
    return {name: by_name[name] for name in sorted(by_name)}


@functools.cache
def _of_packages() -> dict[str, dict[str, Path]]:
    return {package: _in(folder) for package, folder in _folders().items()}


def _in(folder: Path) -> dict[str, Path]:
    return {_name(path, folder): path for path in sorted(folder.rglob("*.yaml")) if _is_recipe(path, folder)}


def _name(path: Path, folder: Path) -> str:
    """Name a recipe: `recipes/motor-eegnet.yaml` is motor-eegnet; `synthesize/motor.yaml` is synthesize/motor."""
    return path.relative_to(folder).with_suffix("").as_posix().removeprefix("recipes/")


def _is_recipe(path: Path, folder: Path) -> bool:
    return path.relative_to(folder).parts[0] not in (SITES, PROTOCOLS) and _name(path, folder) != DEFAULT


def protocols() -> Mapping[str, Path]:
    """Return all protocols by name; those in `configs/protocols` here win. Files with _ in front are only included."""
    folders = [*_folders().values(), HERE]
    paths = {path.stem: path for folder in folders for path in sorted((folder / PROTOCOLS).glob("[!_]*.yaml"))}
    return {name: paths[name] for name in sorted(paths)}


def find(name: str) -> Path:
    """Return the file of the recipe of that name; `PACKAGE/NAME` is always the one of that package."""
    recipes = every()
    package, _, rest = name.partition("/")
    if path := recipes.get(name) or _of_packages().get(package, {}).get(rest):
        return path
    if several := [full for full in recipes if full.endswith(f"/{name}") and full.partition("/")[0] in _folders()]:
        raise ConfigError(f"several packages have a recipe {name!r}: use {' or '.join(several)}")
    raise ConfigError(f"{name!r} is neither a key=value, nor a .yaml file, nor a recipe.{did_you_mean(name, recipes)}")


def is_of_package(path: Path) -> bool:
    """Whether a config file comes with an installed package."""
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in _folders().values())


def default_here() -> Path | None:
    """Return `configs/default.yaml` of the working directory, if it exists."""
    path = HERE / f"{DEFAULT}.yaml"
    return path if path.is_file() else None


def default_of(package: str) -> Path | None:
    """Return the default recipe of a package."""
    folder = _folders().get(package)
    path = folder and folder / f"{DEFAULT}.yaml"
    return path if path and path.is_file() else None


def title(path: Path) -> str:
    """Return the first sentence of a recipe's opening comment."""
    comment = []
    for line in path.read_text(errors="replace").splitlines():
        if not line.startswith("# ") or line.startswith("#   "):  # a command to run it with
            break
        comment.append(line[2:])
    return " ".join(comment).partition(". ")[0].rstrip(".")
