"""Profiles of clusters, and the resources that a job may ask for."""

import dataclasses
import re
from pathlib import Path

import pytest

from hpc import config
from hpc.errors import ConfigError
from hpc.site import allocation, fabric, profile
from hpc.site.allocation import Request, duration_s
from hpc.site.profile import Account, Detect, Partition, Site, Storage

ROOT = Path(__file__).parent.parent.parent
PROFILES = sorted((ROOT / "configs/site").glob("*.yaml"))
OURS = {"local", "debug", "bed", "slurm"}
CLUSTERS = {"lem-gpu", "lem-cpu", "bem2-cpu", "athena", "ares", "helios", "lumi", "pcss", "icm", "task"}
BED = Site("bed", "slurm", gpus_per_node=2, ranks_per_node=2, max_nodes=4, time="10m", lead="30s")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("4h", 14400), ("1h30m", 5400), ("2d", 172800), ("90", 5400), ("01:00:00", 3600),
     ("1-12:00:00", 129600)],
)  # fmt: skip
def test_times_are_read_as_people_and_slurm_write_them(text: str, seconds: int) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "4 hours", "h4", "1:00", "-3h", "\u00b2", "\u00b2h"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot read the time"):
        duration_s(text)


def test_ranks_follow_gpus() -> None:
    assert allocation.fit(BED, Request(nodes=2)).ranks == 4
    assert allocation.fit(BED, Request(nodes=2, gpus=1)).ranks == 2
    assert allocation.fit(BED, Request(gpus=0)).ranks == 2
    assert allocation.fit(BED, Request(gpus=0, ranks=3)).ranks == 3


def test_a_laptop_has_as_many_ranks_as_gpus_and_no_walltime() -> None:
    laptop = allocation.load("local")
    assert allocation.fit(laptop, Request(), n_gpus_here=0).ranks == 1
    assert allocation.fit(laptop, Request(), n_gpus_here=2).ranks == 2
    assert allocation.fit(laptop, Request()).time_s is None
    assert allocation.fit(laptop, Request(time="1m")).time_s == 60


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(nodes=5), "--nodes must be 1 to 4 on bed, but got 5"),
        (Request(nodes=0), "--nodes must be 1 to 4"),
        (Request(gpus=3), "--gpus must be 0 to 2 a node on bed, but got 3"),
        (Request(ranks=0), "--ranks must be at least 1"),
        (Request(time="366d"), "--time 366d is more than 365d: ask for less"),
        (Request(time="30s"), "--time 30s is not more than the 30s that bed keeps for saving"),
    ],
)
def test_what_a_site_cannot_give_is_refused_with_its_limit(request_: Request, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        allocation.fit(BED, request_)


def test_an_account_is_asked_for_where_one_is_needed() -> None:
    grant = Site("lem", "slurm", account=Account(required=True))
    with pytest.raises(
        ConfigError, match="lem needs an account: say --account NAME, or set HPC_ACCOUNT, or write `lem: N"
    ):
        allocation.fit(grant, Request())
    assert allocation.fit(grant, Request(account="hpc-x")).account == "hpc-x"


def test_an_account_comes_from_the_line_then_the_environment_then_the_users_file(tmp_path: Path) -> None:
    grant = Site("lem", "slurm", account=Account(required=True))
    environ = {"SLURM_ACCOUNT": "third", "HPC_ACCOUNT": "first", "SBATCH_ACCOUNT": ""}
    assert allocation.find_account(grant, None, {}, tmp_path) is None
    (tmp_path / ".config/hpc").mkdir(parents=True)
    (tmp_path / ".config/hpc/accounts.yaml").write_text("lem: mine\nother: 7\n")
    assert allocation.find_account(grant, "said", environ, tmp_path) == "said"
    assert allocation.find_account(grant, None, environ, tmp_path) == "first"
    assert allocation.find_account(grant, None, {"SLURM_ACCOUNT": "third", "SBATCH_ACCOUNT": ""}, tmp_path) == "third"
    assert allocation.find_account(grant, None, {}, tmp_path) == "mine"
    assert allocation.find_account(Site("bed", "slurm"), None, {}, tmp_path) is None


@pytest.mark.parametrize("value", ["[a, b]", "{a: b}", "true", "1.5"])
def test_an_account_that_is_no_text_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / ".config/hpc").mkdir(parents=True)
    (tmp_path / ".config/hpc/accounts.yaml").write_text(f"lem: {value}\n")
    with pytest.raises(ConfigError, match="accounts.yaml: lem needs the name of an account, as text, but got "):
        allocation.find_account(Site("lem", "slurm"), None, {}, tmp_path)


def test_an_account_that_is_needed_is_made_up_for_a_look(tmp_path: Path) -> None:
    fitted = allocation.fit(allocation.load("lem-gpu"), Request(), dry=True)
    assert fitted.account == "ACCOUNT"
    assert any(note.startswith("ACCOUNT stands where lem-gpu needs an account") for note in fitted.notes)
    assert allocation.fit(allocation.load("lem-gpu"), LEM, dry=True).account == "hpc-x"
    assert allocation.fit(BED, Request(), dry=True).account == ""


def test_an_account_gets_the_suffix_of_its_partition_once() -> None:
    ares = allocation.load("ares")
    assert allocation.fit(ares, Request(account="grant")).account == "grant-cpu"
    assert allocation.fit(ares, Request(account="grant-cpu")).account == "grant-cpu"
    assert allocation.fit(ares, Request(account="grant-cpu", partition="plgrid-bigmem")).account == "grant-cpu-bigmem"
    assert allocation.fit(ares, Request(account="grant-cpu", partition="plgrid-gpu-v100")).account == "grant-gpu"
    assert allocation.fit(ares, Request(account="grant-gpu", partition="plgrid-now")).account == "grant-cpu"
    athena = allocation.fit(allocation.load("athena"), Request(account="grant"))
    assert athena.account == "grant-gpu-a100"
    assert "account grant-gpu-a100: the suffix of athena, partition plgrid-gpu-a100" in athena.notes


def test_a_partition_may_want_the_account_as_qos() -> None:
    lem = allocation.load("lem-gpu")
    assert allocation.fit(lem, Request(account="hpc-x")).qos == ""
    asked = allocation.fit(lem, Request(account="plgx", partition="plgrid-lem-gpu-h100"))
    assert allocation.sbatch_options(lem, asked) == {"gres": "gpu:hopper:1", "qos": "plgx"}


def test_an_account_that_looks_wrong_is_remarked_on() -> None:
    (note,) = [note for note in allocation.fit(allocation.load("lumi"), Request(account="465")).notes if "465" in note]
    assert note == "accounts of lumi look like ^project_; '465' does not"


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_loads_and_fits(path: Path) -> None:
    loaded = config.build(Site, config.load([path]) | {"name": path.stem}, path.stem)
    assert allocation.fit(loaded, Request(account="any")).ranks >= 1
    for partition in loaded.partitions:
        assert allocation.fit(loaded, Request(account="any", partition=partition)).partition == partition


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_says_whose_word_it_is(path: Path) -> None:
    assert set(config.load([path])) >= {"kind", "description", "status", "verified_on", "sources"}
    loaded = allocation.load(path.stem)
    assert loaded.sources and loaded.verified_on and loaded.description


def test_the_profiles_are_those_we_promise_and_those_the_page_lists() -> None:
    assert {path.stem for path in PROFILES} == OURS | CLUSTERS
    page = (ROOT / "docs/sites.md").read_text()
    found = re.findall(r"^\| `([\w-]+)` \| ([^|\n]+) \| ([^|\n]+) \|", page, re.MULTILINE)
    rows = {name: (status, date) for name, status, date in found}
    listed = {path.stem: allocation.load(path.stem) for path in PROFILES}
    assert rows == {name: (here.status, here.verified_on) for name, here in listed.items()}


def test_every_key_of_a_profile_is_on_the_page() -> None:
    page = (ROOT / "docs/sites.md").read_text()
    keys = {field.name for kind in (Site, Partition, Account, Storage, Detect) for field in dataclasses.fields(kind)}
    assert {key for key in keys if f"`{key}`" not in page} == {"name"}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_no_profile_names_a_grant(path: Path) -> None:
    grant = re.compile(r"\bplg(?!rid)\w+|\bhpc-[a-z]\w*-\d+|\bproject_\d+|--account|^\s*(account|qos): *['\"]?\w", re.M)
    assert grant.findall("account: plgx\nhpc-somebody-1700000000 project_465000001")
    assert grant.findall(path.read_text()) == []


LEM = Request(account="hpc-x")


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("lem-gpu", Request(time="5d"), "--time 5d is more than the 3d of lem-gpu, partition lem-gpu-short; "
         "--partition lem-gpu-normal takes it"),
        ("lem-gpu", Request(time="8d"), "--time 8d is more than the 3d of .*-short; ask for less, the run goes on"),
        ("lem-gpu", Request(time="5d", nodes=60), "--time 5d is more than .*; ask for less"),
        ("lem-gpu", Request(gpus=5), "--gpus must be 0 to 4 a node on lem-gpu, partition lem-gpu-short, but got 5"),
        ("lem-gpu", Request(gpus=2, partition="lem-gpu-interactive"), "1 x 2 GPUs are more than the 1 that one user "
         "gets on lem-gpu, partition lem-gpu-interactive; --partition lem-gpu-short takes it"),
        ("lem-gpu", Request(gpus=2, cpus=17), "2 ranks with 17 CPUs each are 34 a node, but .* gives 32 .16 a GPU.: "
         "ask for --cpus 16"),
        ("lem-gpu", Request(gpus=1, ranks=20), "20 ranks with 16 CPUs each .* gives 16 .16 a GPU.: .* fewer --ranks"),
        ("lem-gpu", Request(mem_gb=251), "--mem must be 1 to 250 GB a node on lem-gpu, .* .250 a GPU., but got 251"),
        ("lem-gpu", Request(mem_gb=0), "--mem must be at least 1, but got 0"),
        ("lem-gpu", Request(scratch_gb=8000), "--scratch must be 0 to 7000 GB a node on lem-gpu, .*, but got 8000"),
        ("athena", Request(scratch_gb=1), "--scratch: the profile athena has no gres_extra"),
        ("athena", Request(gpus=0), "--gpus must be 1 to 8 a node on athena, partition plgrid-gpu-a100, which is for "
         "work on GPUs only, but got 0"),
        ("ares", Request(gpus=1), "--gpus must be 0 a node on ares, partition plgrid, but got 1; "
         "--partition plgrid-gpu-v100 takes it"),
        ("local", Request(gpus=2), "--gpus 2: no GPU is seen on this machine, neither /dev/nvidia0 nor .*--gpus out"),
        ("lumi", Request(nodes=5), "--nodes must be 1 to 4 on lumi, partition small-g, but got 5; --partition dev-g"),
        ("lumi", Request(nodes=5, time="1d"), "but got 5; --partition standard-g takes it"),
        ("lem-cpu", Request(cpus=129), "1 ranks with 129 CPUs each are 129 a node, but .* gives 128 .a whole node."),
    ],
)  # fmt: skip
def test_what_a_partition_cannot_give_is_refused_with_its_limit(name: str, asked: Request, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        allocation.fit(allocation.load(name), dataclasses.replace(asked, account="hpc-x"))


def test_what_was_left_open_is_made_to_fit_and_said() -> None:
    lem = allocation.load("lem-gpu")
    fitted = allocation.fit(lem, Request(gpus=2, ranks=4, account="hpc-x"))
    assert fitted.cpus_per_rank == 8
    assert "8 CPUs a rank instead of 16: lem-gpu, partition lem-gpu-short gives 32 a node (16 a GPU)" in fitted.notes
    small = Site("s", "slurm", partition="p", partitions={"p": Partition("30m", max_mem_gb_per_node=8)}, mem_gb=16)
    fitted = allocation.fit(small, Request())
    assert (fitted.mem_gb, fitted.time_s) == (8, 1800)
    assert fitted.notes == (
        "time is 30m instead of 1h, the limit of s, partition p",
        "8 GB a node instead of 16, the limit of s, partition p (a whole node)",
    )


def test_the_science_is_never_made_smaller() -> None:
    """Ranks and nodes are as requested, or the request is refused."""
    for asked in (Request(nodes=3, gpus=2, account="any"), Request(nodes=2, ranks=5, gpus=1, account="any")):
        fitted = allocation.fit(allocation.load("lem-gpu"), asked)
        assert (fitted.nodes, fitted.gpus_per_node) == (asked.nodes, asked.gpus)
        assert fitted.ranks_per_node == (asked.ranks or asked.gpus)


def test_gpus_follow_the_partition() -> None:
    helios, lumi, ares = allocation.load("helios"), allocation.load("lumi"), allocation.load("ares")
    assert allocation.fit(helios, Request(account="a", partition="plgrid")).gpus_per_node == 0
    assert allocation.fit(ares, Request(account="a", partition="plgrid-gpu-v100")).gpus_per_node == 1
    whole = allocation.fit(lumi, Request(account="project_x", partition="standard-g"))
    assert (whole.gpus_per_node, whole.cpus_per_rank, whole.mem_gb) == (8, 7, 480)
    some = allocation.fit(lumi, Request(account="project_x", partition="standard-g", gpus=2))
    assert "lumi, partition standard-g gives whole nodes: you pay for 8 GPUs on each, and use 2" in some.notes


def test_a_partition_we_know_nothing_of_is_left_to_sbatch() -> None:
    fitted = allocation.fit(allocation.load("lem-gpu"), Request(account="hpc-x", partition="lem-gpu-shrot", time="30d"))
    (note,) = [note for note in fitted.notes if "lem-gpu-shrot" in note]
    assert "its limits are not checked. Did you mean 'lem-gpu-short'?" in note


def test_all_gres_are_one_option() -> None:
    lem = allocation.load("lem-gpu")
    asked = allocation.fit(lem, Request(gpus=4, scratch_gb=200, account="hpc-x"))
    assert allocation.sbatch_options(lem, asked) == {"gres": "gpu:hopper:4,storage:local:200G"}
    more = dataclasses.replace(lem, directives={"gres": "storage:shm:9G", "exclusive": "", "comment": "a b"})
    assert allocation.sbatch_options(more, asked) == {
        "gres": "gpu:hopper:4,storage:local:200G,storage:shm:9G", "exclusive": True, "comment": "a b"
    }  # fmt: skip
    lumi = allocation.load("lumi")
    assert allocation.sbatch_options(lumi, allocation.fit(lumi, Request(gpus=8, account="x"))) == {"gpus-per-node": "8"}


def test_ranks_are_bound_to_cores_only_where_a_job_has_all_gpus_of_a_node() -> None:
    lumi = allocation.load("lumi")
    for gpus, bound in ((8, True), (4, False)):
        assert (
            "SLURM_CPU_BIND" in allocation.job_env(lumi, allocation.fit(lumi, Request(gpus=gpus, account="x")))
        ) is bound


def test_a_stub_can_be_looked_at_but_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = allocation.load("icm")
    assert allocation.fit(stub, Request(account="x")).nodes == 1
    with pytest.raises(
        ConfigError, match=r"icm is a stub, so nothing is submitted. Fill in partition; .*/icm.yaml, or in"
    ):
        allocation.check_usable(stub)
    allocation.check_usable(allocation.load("lem-gpu"))
    with pytest.raises(ConfigError, match="a stub says under missing what has to be filled in"):
        config.build(Site, {"name": "x", "kind": "slurm", "status": "stub"}, "x")


def test_a_run_folder_on_the_wrong_disk_is_told_of_or_refused() -> None:
    athena, lem = allocation.load("athena"), allocation.load("lem-gpu")
    environ = {"HOME": "/home/me", "SCRATCH": "/net/tscratch/people/me", "TMPDIR_LOCAL": "/mnt/lscratch/1"}
    asked = allocation.fit(athena, Request(account="x"))

    def look(where: Site, runs: str) -> tuple[str, ...]:
        return allocation.look_at_folder(where, asked, Path(runs), environ)

    assert look(athena, "/net/tscratch/people/me/runs") == (
        "athena deletes files here after 30 days: copy what is to stay to $PLG_GROUPS_STORAGE",
    )
    assert look(athena, "/home/me/runs") == ("the home of athena holds 10 GB: better --runs in $PLG_GROUPS_STORAGE",)
    assert look(athena, "/net/tscratch/people/metoo/runs") == look(lem, "/lustre/pd01/runs") == ()
    with pytest.raises(ConfigError, match="/mnt/lscratch/1/runs is on a disk that one node of lem-gpu sees"):
        look(lem, "/mnt/lscratch/1/runs")
    lumi = allocation.load("lumi")
    asked = allocation.fit(lumi, Request(account="project_x"))
    assert "after 90 days: copy what is to stay to /project/" in look(lumi, "/scratch/project_x/runs")[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_time": 1}, "has no setting 'max_time'. Did you mean 'time'"),
        ({"partitions": {"p": {"max_tiem": "1h"}}}, "partitions.p has no setting 'max_tiem'. Did you mean 'max_time'"),
        ({"partition": "q", "partitions": {"p": {}}}, "partition 'q' is not one of partitions: p"),
        ({"partition": "p", "partitions": {"p": {"max_time": 43200}}}, "max_time needs a unit, .* the number 43200"),
        ({"gpu_request": "--gres=gpu:4"}, "gpu_request needs {gpus}"),
        ({"status": "offical"}, "status cannot be 'offical'. Did you mean 'official'"),
        ({"detect": {"hostnames": ["("]}}, "'.' is not a regular expression"),
    ],
)  # fmt: skip
def test_a_wrong_profile_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build(Site, {"name": "x", "kind": "slurm"} | values, "site x")


def test_an_unknown_site_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="there is no site 'locl'. Did you mean 'local'"):
        allocation.load("locl")


def test_a_profile_of_ones_own_goes_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/site").mkdir(parents=True)
    (tmp_path / "configs/site/local.yaml").write_text("kind: local\nmax_nodes: 3\n")
    assert allocation.load("local").max_nodes == 3


def test_slurm_commands_without_a_configuration_are_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert allocation.detect({}) == ("slurm" if Path("/etc/slurm/slurm.conf").exists() else "local")
    (tmp_path / "slurm.conf").touch()
    there, gone = {"SLURM_CONF": str(tmp_path / "slurm.conf")}, {"SLURM_CONF": str(tmp_path / "bed/slurm.conf")}
    assert allocation.detect(there) == "slurm"
    assert allocation.detect(gone) == "local"
    assert allocation.detect({"HPC_SITE": "bed"}) == "bed"
    assert allocation.detect({"HPC_SITE": ""} | there) == "slurm"
    monkeypatch.setenv("PATH", "")
    assert allocation.detect(there) == "local"


def test_in_our_checkout_the_users_own_profiles_go_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config/hpc/site").mkdir(parents=True)
    (tmp_path / ".config/hpc/site/local.yaml").write_text("kind: local\nmax_nodes: 5\n")
    assert allocation.load("local").max_nodes == 5


@pytest.mark.parametrize(
    ("environ", "hostname", "cluster_name", "name"),
    [
        ({"PDDIR": "/lustre/pd01/a"}, "c1", "", "lem-gpu"),
        ({}, "ui.wcss.pl", "", "lem-gpu"),
        ({"SCRATCH": "/net/tscratch/people/me"}, "", "", "athena"),
        ({"SCRATCH": "/net/scratch/hscra/plgrid/me"}, "", "", "helios"),
        ({}, "eagle.man.poznan.pl", "", "pcss"),
        ({}, "anything", "bed", "bed"),
        ({"SCRATCH": "/scratch", "PDDIR": "/home"}, "ui.wcss.pl.example.org", "bedrock", None),
    ],
)
def test_a_site_is_recognised_by_what_is_there(
    environ: dict[str, str], hostname: str, cluster_name: str, name: str | None
) -> None:
    fitting = [
        path.stem for path in PROFILES if allocation.load(path.stem).detect.fits(environ, hostname, cluster_name)
    ]
    assert fitting == ([name] if name else []), "no two profiles for one machine"
    assert profile.recognise(map(allocation.load, profile.names()), environ, hostname, cluster_name) == name


def test_a_cluster_is_recognised_by_its_name_and_a_broken_profile_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    own = tmp_path / ".config/hpc/site"
    own.mkdir(parents=True)
    (own / "a-broken.yaml").write_text("kind: [\n")
    (own / "mine.yaml").write_text("kind: slurm\ndetect: {cluster_names: [mine]}\n")
    (tmp_path / "slurm.conf").write_text("# ClusterName=other\nClusterName = mine # hers\n")
    environ = {"SLURM_CONF": str(tmp_path / "slurm.conf")}
    assert allocation.detect(environ) == "mine"
    assert allocation.detect(environ, cluster_name="unheard-of", hostname="nowhere") == "slurm"
    assert allocation.detect(environ | {"HPC_SITE": "lumi"}) == "lumi"


def test_a_slurm_is_that_of_the_profile_whose_signs_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    conf = tmp_path / "slurm.conf"
    environ = {"SLURM_CONF": str(conf)}
    without_signs = Site("own", "slurm")
    every = [allocation.load("slurm"), allocation.load("bed"), allocation.load("lem-gpu"), without_signs]

    conf.write_text("ClusterName=bed\n")
    assert [here.name for here in every if profile.is_here(here, environ)] == ["slurm", "bed"]
    conf.write_text("ClusterName=unheard-of\n")
    assert [here.name for here in every if profile.is_here(here, environ)] == ["slurm", "own"]
    assert not profile.is_here(allocation.load("local"), environ)


def test_a_folder_that_other_nodes_may_not_see_is_remarked_on() -> None:
    where = allocation.load("slurm")
    resources = allocation.fit(where, allocation.Request())
    (note,) = allocation.look_at_folder(where, resources, Path("/tmp/me/runs"), {})
    assert "/tmp/me/runs is where most clusters have a disk of each machine's own" in note
    assert allocation.look_at_folder(where, resources, Path("/lustre/me/runs"), {}) == ()


def test_the_fabric_of_a_site_is_that_of_gloo_nccl_and_tensorpipe() -> None:
    there = ["eth0", "hsn0", "hsn1", "ib0", "lo"]
    assert fabric.variables("hsn", there) == {
        "GLOO_SOCKET_IFNAME": "hsn0", "NCCL_SOCKET_IFNAME": "=hsn0,hsn1", "TP_SOCKET_IFNAME": "hsn0"
    }  # fmt: skip
    assert fabric.variables("ib, hsn1", there)["NCCL_SOCKET_IFNAME"] == "=hsn1,ib0"
    assert allocation.load("lumi").fabric == "hsn"
    with pytest.raises(
        RuntimeError,
        match="no network interface of this node begins with hsn, as the site's profile says of its fabric; there are "
        "eth0, lo. If it is so on every node, correct `fabric` there",
    ):
        fabric.variables("hsn", ["eth0", "lo"])
    assert "lo" in fabric.interfaces()


def test_more_ranks_than_gpus_are_refused_with_both_numbers() -> None:
    lem, laptop = allocation.load("lem-gpu"), allocation.load("local")
    message = (
        "8 ranks a node cannot share 2 GPUs: one GPU takes one rank. Say --ranks 2, or --gpus 8 if a node has as many, "
        "or --gpus 0 to compute on CPUs"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        allocation.check_gpus(lem, allocation.fit(lem, Request(gpus=2, ranks=8, account="hpc-x")))
    allocation.check_gpus(lem, allocation.fit(lem, Request(gpus=0, ranks=8, account="hpc-x")))
    allocation.check_gpus(lem, allocation.fit(lem, Request(gpus=2, ranks=1, account="hpc-x")))  # wasteful, but it works
    allocation.check_gpus(allocation.load("bed"), allocation.fit(BED, Request(gpus=2, ranks=8)))  # plain files
    message = (
        "2 nodes on local are groups of processes of one machine, and would share 4 GPUs: one GPU takes one rank. Say "
        "--ranks 4 without --nodes, or --gpus 0 to compute on CPUs"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        allocation.check_gpus(laptop, allocation.fit(laptop, Request(nodes=2), n_gpus_here=4))
    allocation.check_gpus(laptop, allocation.fit(laptop, Request(nodes=2)))
