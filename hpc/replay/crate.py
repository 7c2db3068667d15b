"""The metadata of a capsule, as RO-Crate 1.1 has it: which files it holds, and what was computed from what, by what.

Its spec: w3id.org/ro/crate/1.1. Of the terms for hashes and runs, that of the profile Process Run Crate 0.5.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hpc
from hpc.runs import products, provenance, records
from hpc.runs.rundir import RunDir

NAME = "ro-crate-metadata.json"
SPEC = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
TERMS = "https://w3id.org/ro/terms/workflow-run#"
KINDS = {
    ".json": "application/json", ".jsonl": "application/jsonl", ".yaml": "application/yaml", ".zip": "application/zip",
    ".txt": "text/plain", ".md": "text/markdown",
}  # fmt: skip


NO_LICENSE = "Not stated: ask whoever gave you this file."


class Entry(NamedTuple):
    """A file of a capsule."""

    n_bytes: int
    sha256: str


def metadata(runs: Sequence[RunDir], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return the metadata. `runs`: that of the capsule first, then those that it reads."""
    main = runs[0]
    ended = records.result(main).get("ended", 0.0)
    root = {
        "@id": "./", "@type": "Dataset", "name": f"The run {main.name}", "datePublished": _date(ended),
        "description": f"What is needed to compute {main.name} again: hpc replay FILE. Its stage is "
        f"{records.plan(main)['stage']}; products are listed with their hashes.",
        "license": {"@id": "#license"}, "conformsTo": {"@id": PROFILE},
        "hasPart": [{"@id": _id(name)} for name in sorted(entries)],
        "mentions": [{"@id": f"#{run.name}"} for run in runs],
        "mainEntity": {"@id": f"#{main.name}"},
    }  # fmt: skip
    graph: list[dict[str, Any]] = [
        {"@id": NAME, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": {"@id": SPEC}},
        root,
        {"@id": "#license", "@type": "CreativeWork", "name": "License", "description": NO_LICENSE},
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        {"@id": "#hpc", "@type": "SoftwareApplication", "name": "hpc-eegdecode", "version": hpc.__version__},
        *(_file(name, entry) for name, entry in sorted(entries.items())),
    ]
    for run in runs:
        graph += _action(run, {other.name for other in runs})
    return {"@context": [f"{SPEC}/context", {"sha256": f"{TERMS}sha256"}], "@graph": graph}


def _file(name: str, entry: Entry) -> dict[str, Any]:
    kind = KINDS.get(name[name.rfind(".") :] if "." in name else "", "application/octet-stream")
    return {
        "@id": _id(name), "@type": "File", "name": name, "contentSize": str(entry.n_bytes), "sha256": entry.sha256,
        "encodingFormat": kind,
    }  # fmt: skip


def _action(run: RunDir, packed: set[str]) -> list[dict[str, Any]]:
    """Return the entities of a run: what it was computed from, and what it has made."""
    plan, result, about = records.plan(run), records.result(run), provenance.read(run)
    made = {f"#{run.name}/{name}": product for name, product in (products.listed(run.out) or {}).items()}
    read = {f"#{ref}": {"name": f"the products of {ref}", "sha256": digest} for ref, digest in about["runs"].items()}
    read |= {f"#{ref}": {"name": ref, "sha256": entry["digest"]} for ref, entry in about["paths"].items()}
    action = {
        "@id": f"#{run.name}", "@type": "CreateAction", "name": f"{plan['stage']} ({plan['entry']})",
        "instrument": {"@id": "#hpc"}, "object": [{"@id": ref} for ref in read],
        "result": [{"@id": ref} for ref in made],
        "endTime": _date(result.get("ended", 0.0)), "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
    }  # fmt: skip
    inputs = [
        {"@id": ref, "@type": "Dataset", **each} for ref, each in read.items() if ref.removeprefix("#") not in packed
    ]
    outputs = [
        {"@id": ref, "@type": "CreativeWork", "name": product.file, "contentSize": str(product.n_bytes),
         "sha256": product.sha256}
        for ref, product in made.items()
    ]  # fmt: skip
    return [action, *inputs, *outputs]


def _id(name: str) -> str:
    from urllib.parse import quote

    return quote(name)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
