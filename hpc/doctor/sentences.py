"""What will not work on a site, or works in another way, and what happens then instead: in sentences."""

import os
import sys
from collections.abc import Iterator

from hpc.doctor.lines import Evidence, local_disks, way_text
from hpc.doctor.looks import SLOW_S
from hpc.media import many

USUAL_ARRAY = 1001
SLOW_FILES_S, SLOW_MB_S = 50, 30


def sentences(evidence: Evidence) -> list[str]:
    """Return the sentences, what stops a run first."""
    return [
        *_software(evidence), *_account(evidence), *_requeue(evidence), *_signal(evidence), *_preemption(evidence),
        *_memory(evidence), *_environment(evidence), *_network(evidence), *_gpus(evidence), *_disks(evidence),
        *_limits(evidence), *_not_probed(evidence),
    ]  # fmt: skip


def _software(evidence: Evidence) -> Iterator[str]:
    software = evidence.of("python")
    if not software:
        return
    if software["machine"] != os.uname().machine:
        yield (
            f"The nodes are {software['machine']} and this machine is {os.uname().machine}: an environment that is "
            "made here does not run there. Make it in a job (env/setup.sh), and give lines with its Python."
        )
    torch = software["torch"]
    if "error" in torch:
        yield (
            f"torch cannot be imported on a node ({torch['error']}): a training would fail at its start. Make the "
            f"environment where nodes see it; theirs is {software['prefix']}."
        )
    elif torch["import_s"] > SLOW_S:
        again = (
            f", and {torch['again_s']:.0f} s when a node has read it once"
            if (torch.get("again_s") or 1e9) < torch["import_s"]
            else ""
        )
        yield (
            f"torch takes {torch['import_s']:.0f} s to import from {software['prefix']} ({software['on']}){again}: "
            "each start of ranks takes that long. A container, or an environment on a faster disk, saves it."
        )
    if software["python"] != sys.version.split()[0]:
        yield f"Python is {software['python']} on the nodes and {sys.version.split()[0]} here, under the same path."


def _account(evidence: Evidence) -> Iterator[str]:
    facts = evidence.facts
    if facts.account_required:
        yield (
            "Each job needs an account: without --account, HPC_ACCOUNT or a line in ~/.config/hpc/accounts.yaml a run "
            "is refused before it is submitted."
        )
    if facts.qos_refusal:
        yield f"Jobs of this account need the --qos of these probes: without it sbatch says: {facts.qos_refusal}."


def _requeue(evidence: Evidence) -> Iterator[str]:
    seen, nodes, facts = evidence.of("requeue"), evidence.of("nodes"), evidence.facts
    new_job = "at the end of its walltime a run goes on in a new job that it submits itself"
    if nodes.get("scontrol"):
        yield (
            f"scontrol does not work on the nodes ({nodes['scontrol']}): a job cannot be requeued from there; "
            f"{new_job}."
        )
    if nodes.get("sbatch"):
        yield (
            f"sbatch does not work on the nodes ({nodes['sbatch']}): where a job is not requeued, a run ends at its "
            "walltime, with all that it has saved, and `hpc resume RUN` goes on."
        )
    if seen.get("refused"):
        yield f"A job cannot be requeued ({seen['refused']}): {new_job}, with its own turn in the queue."
    elif "held_s" in seen:
        why = f", reason {seen['reason']}" if seen["reason"] not in ("", "BeginTime", "None") else ""
        yield (
            f"Slurm holds a requeued job for {seen['held_s']} s{why}"
            + (f", as the epilog outlasts it: {new_job} instead." if facts.has_epilog else ": a run waits that long.")
        )
    elif facts.has_epilog:
        yield (
            f"There is an epilog, and behind a long one Slurm holds a requeued job for two minutes: {new_job} instead."
        )
    if facts.setting("JobRequeue") == "0" and seen and not seen.get("refused"):
        yield "JobRequeue is 0, so jobs of others are not requeued; ours ask for it (--requeue), and it works."


def _signal(evidence: Evidence) -> Iterator[str]:
    seen = evidence.of("signal")
    if seen and seen.get("signal") != "SIGUSR2":
        what = f"{seen['signal']} came instead" if seen.get("signal") else "nothing came"
        yield (
            f"The signal before the end of the walltime does not arrive ({what}): a run asks Slurm when its job ends, "
            "and saves by the clock."
        )


def _preemption(evidence: Evidence) -> Iterator[str]:
    facts = evidence.facts
    if facts.setting("PreemptType") in ("", "preempt/none"):
        return
    for name, partition in facts.partitions.items():
        mode, grace = partition.get("PreemptMode", "OFF"), partition.get("GraceTime", "0")
        if "CANCEL" in mode:
            yield (
                f"Jobs in the partition {name} are cancelled where another one preempts them, and not requeued: a run "
                "ends as preempted, and `hpc resume RUN` goes on from its last checkpoint."
            )
        if mode != "OFF" and grace in ("0", "00:00:00"):
            yield (
                f"Preempted jobs in the partition {name} get no time to save (GraceTime=0): a run goes on from its "
                "last checkpoint, so let it save often."
            )


def _memory(evidence: Evidence) -> Iterator[str]:
    seen = evidence.of("nodes").get("memory")
    if not seen:
        return
    used = f"a task with --mem={seen.get('asked_mb')}M took {seen.get('used_mb')} MB"
    if seen.get("survived"):
        yield (
            f"Memory is not enforced ({used} and lived): a run that takes too much harms its neighbours, or the node "
            "ends it without a word from Slurm."
        )
    elif seen.get("is_oom") or not seen.get("allocated", True):
        yield (
            f"Memory is enforced ({used} and was ended after {seen.get('seconds')} s): a run that needs more than its "
            "--mem fails, and `why` names the --mem to ask for."
        )
    else:
        yield f"Whether memory is enforced is not clear: {used}, and srun says: {seen.get('error') or 'nothing'}."
    cores = evidence.of("nodes").get("cores", {})
    if cores.get("given") and cores["usable"] > cores["given"]:
        yield (
            f"Tasks are not bound to their cores (given {cores['given']}, usable {cores['usable']}): ranks may be "
            "slowed by others on the node. Each rank starts only as many threads as it was given cores."
        )


def _environment(evidence: Evidence) -> Iterator[str]:
    nodes, facts = evidence.of("nodes"), evidence.facts
    if nodes and not nodes["gets_environment"]:
        yield (
            f"Jobs get nothing of your environment (--export={nodes['export'] or 'NONE'}): what a run needs is in its "
            "script. Secrets must be in the file of secrets, and modules in the `prologue`."
        )
    wait_s = facts.number("WaitTime")
    if wait_s:
        yield (
            f"Slurm would end all tasks {wait_s} s after the first has ended (WaitTime): our srun says --wait=0, so "
            "ranks may end at different times."
        )


def _network(evidence: Evidence) -> Iterator[str]:
    nodes = evidence.of("nodes")
    if nodes.get("silent"):
        yield f"Not all nodes of the job have answered ({nodes['silent']}): runs on several nodes may not start."
    if evidence.ways and all(way["error"] for way in evidence.ways):
        yield (
            f"The nodes do not reach each other ({'; '.join(map(way_text, evidence.ways))}): runs on several nodes "
            "will fail. Say --nodes 1, or ask the site which interface is open between nodes."
        )


def _gpus(evidence: Evidence) -> Iterator[str]:
    seen = evidence.of("gpus")
    if not seen:
        return
    batch = seen["batch"]
    counts = {task["n"] for task in seen.get("tasks", [])}
    if not batch["nvidia"] and not batch["amd"]:
        yield "Slurm counts GPUs here, but the nodes have none: ranks compute on CPUs."
    elif counts == {1} and seen["asked"] > 1:
        yield "Each task sees one GPU, its own: ranks take that."
    elif counts and max(counts) < seen["asked"]:
        yield (
            f"Tasks see {max(counts)} of {many(seen['asked'], 'GPU')} that were asked for: correct `gpu_request`, or "
            "ask the site how GPUs are bound."
        )
    torch = seen.get("torch", {})
    if torch.get("n_gpus") == 0:
        yield (
            f"torch {torch.get('version', '')} sees no GPU on a node that has some ({batch['driver']}): it is a build "
            "for CPUs, or for another driver. env/README.md tells which to install."
        )


def _disks(evidence: Evidence) -> Iterator[str]:
    disks = evidence.disks
    if not disks:
        return
    runs = disks[0]
    if runs.error:
        yield f"A node cannot write to {runs.path} ({runs.error}): say --runs with a folder of yours that nodes see."
        return
    if runs.seen_elsewhere is False:
        yield (
            f"A node does not see what another one writes to {runs.path} ({runs.kind}): runs on several nodes will "
            "fail. Say --runs with a folder that all nodes see."
        )
    if not local_disks(disks):
        yield "The nodes have no disk of their own for jobs: ranks read their inputs from the shared one."
    if runs.files_s < SLOW_FILES_S or runs.mb_s < SLOW_MB_S:
        yield (
            f"The disk of the run folders is slow ({runs.mb_s:.0f} MB/s, {runs.files_s:.0f} small files/s): put them "
            "on a faster one with --runs, and save seldom."
        )
    if not runs.locks:
        yield (
            "The disk of the run folders cannot be locked: two launchers at the same moment could submit a run twice, "
            "of which the second finds it taken."
        )


def _limits(evidence: Evidence) -> Iterator[str]:
    facts = evidence.facts
    array = facts.number("MaxArraySize")
    if array is not None and array < USUAL_ARRAY:
        yield f"An array has at most {array} elements (MaxArraySize): a longer sweep is refused, so sweep in parts."
    for name, limits in facts.limits.items():
        if "MaxSubmitJobsPerUser" in limits:
            yield (
                f"The QOS {name} takes {limits['MaxSubmitJobsPerUser']} jobs of a user at a time: what is more is "
                "refused at submission, and the same line submits the rest later."
            )
    if facts.books:
        yield (
            f"There is no accounting (sacct: {facts.books}): how jobs ended is known from squeue and from our own "
            "files."
        )
    if facts.sets("SuspendProgram") and facts.number("SuspendTime") not in (None, 0):
        yield (
            f"Idle nodes are powered down (SuspendTime {facts.setting('SuspendTime')}): a job may wait for its nodes "
            f"to boot, {facts.setting('ResumeTimeout') or 'some minutes'} at most."
        )
    if "rl_enable" in facts.setting("SlurmctldParameters"):
        yield "Slurm limits how often you may ask it (rl_enable): ours ask seldom and try again."


def _not_probed(evidence: Evidence) -> Iterator[str]:
    for name, why in evidence.missing.items():
        how = "did not come to its end" if name in evidence.seen else "has no result"
        yield f"The probe `{name}` {how}: {why.rstrip('.')}."
    if evidence.left_out:
        yield f"Not probed yet: {', '.join(evidence.left_out)}. The line without names of probes makes up for it."
