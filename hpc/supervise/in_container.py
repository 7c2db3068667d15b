"""The words that start a rank in a container, where a run has an image.

The supervisor stays outside, where Slurm's commands are. In the image is what ranks need, Python and torch; the folders
of the run are mounted, its snapshot of the code among them. A rank in there is a process of the job as any other: it
has the network, the memory and the name of its node.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc.config import secrets
from hpc.rank.context import Input, input_path
from hpc.site.disks import disk_path

GPU_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "apptainer": {"nvidia": ("--nv",), "amd": ("--rocm",)},
    "singularity": {"nvidia": ("--nv",), "amd": ("--rocm",)},
    "podman": {"nvidia": ("--device=nvidia.com/gpu=all",), "amd": ("--device=/dev/kfd", "--device=/dev/dri")},
    "pyxis": {},
}  # fmt: skip
"""What lets ranks see the GPUs of their node; pyxis does without."""
PODMAN = (
    "podman", "run", "--rm", "--log-driver=none", "--network=host", "--ipc=host", "--uts=host", "--cgroups=disabled",
    "--env-host", "--security-opt=label=disable",
)  # fmt: skip
"""podman isolates what Apptainer does not: ranks meet over the network and in /dev/shm, know their node by its name,
and must stay within the limits of their job."""


def image(plan: Mapping[str, Any]) -> str:
    """Return the image of a run's ranks, empty if it has none. `plan`: the content of plan.json."""
    return str(plan["resources"].get("container") or "")


def python(plan: Mapping[str, Any]) -> str:
    """Return the Python of the ranks."""
    return str(plan["site"]["container"]["python"]) if image(plan) else str(plan["python"])


def srun_words(plan: Mapping[str, Any], runs: Path, environ: Mapping[str, str]) -> list[str]:
    """Return the options of srun that start its tasks in the image: those of pyxis."""
    if not image(plan) or plan["site"]["container"]["runtime"] != "pyxis":
        return []
    mounts = ",".join(map(_source_and_target, binds(plan, runs, environ)))
    words = [f"--container-image={image(plan)}", f"--container-mounts={mounts}", f"--container-workdir={plan['cwd']}"]
    return [*words, *plan["site"]["container"]["options"]]


def wrapped(command: Sequence[str], plan: Mapping[str, Any], runs: Path, environ: Mapping[str, str]) -> list[str]:
    """Return the command that runs a command of a rank in the image.

    Parameters
    ----------
    command
        It sets its variables by itself (env NAME=VALUE …), as an image may have values of its own.
    plan
        The content of plan.json.
    runs
        The folder that holds the run folders.
    environ
        That of the job, for $VARIABLES in the profile.
    """
    if not image(plan) or (own := plan["site"]["container"])["runtime"] == "pyxis":
        return list(command)
    runtime, mounted = own["runtime"], binds(plan, runs, environ)
    gpus = GPU_WORDS[runtime].get(plan["site"]["gpu"], ()) if plan["resources"]["gpus_per_node"] else ()
    if runtime == "podman":
        volumes = [f"--volume={_source_and_target(bind)}" for bind in mounted]
        return [*PODMAN, *gpus, f"--workdir={plan['cwd']}", *volumes, *own["options"], image(plan), *command]
    words = [word for bind in mounted for word in ("--bind", bind)]
    return [runtime, "exec", *gpus, "--pwd", plan["cwd"], *words, *own["options"], image(plan), *command]


def binds(plan: Mapping[str, Any], runs: Path, environ: Mapping[str, str]) -> list[str]:
    """Return what is mounted: /a, or /a:/b:ro. First what a run reads and writes, then what the profile adds."""
    resources, site = plan["resources"], plan["site"]
    local = [disk_path(text, environ, resources["account"]) for text in site["storage"]["scratch_local"]]
    stage = disk_path(resources["stage"], environ, "")
    by_itself = site["container"]["runtime"] in ("apptainer", "singularity")  # unless it was given --no-home
    home = [] if by_itself else [environ["HOME"]] if environ.get("HOME") else []
    written = [plan["cwd"], str(runs), *map(str, filter(None, [*local, stage])), *home]
    inputs = [os.path.join(plan["cwd"], input_path(Input(ref), runs)) for ref in plan["inputs"].values()]
    imported = [place for place in environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(place)]
    read = [*inputs, *imported, str(secrets.path(environ))]
    own = [re.sub(r"\$(\w+)", lambda name: environ.get(name[1], name[0]), bind) for bind in site["container"]["binds"]]
    return [*_topmost(written, read), *own]


def _topmost(written: Sequence[str], read: Sequence[str]) -> list[str]:
    """Return how to mount those of the places that are there, by their own names and by those that links lead to; what
    is below another one comes with it. What is only read is mounted so."""
    there = {
        path: read_only
        for places, read_only in ((read, True), (written, False))
        for place in places
        for path in (os.path.normpath(place), os.path.realpath(place))
        if os.path.exists(path)
    }
    mounted: dict[str, bool] = {}
    for path in sorted(there):
        above = [mounted[str(parent)] for parent in Path(path).parents if str(parent) in mounted]
        if not above or (all(above) and not there[path]):
            mounted[path] = there[path]
    return [f"{path}:{path}:ro" if read_only else path for path, read_only in mounted.items()]


def _source_and_target(bind: str) -> str:
    return bind if ":" in bind else f"{bind}:{bind}"
