"""What a cluster looks like, and what a job may ask of it."""

from pathlib import Path

import pytest

from hpc import site
from hpc.config import ConfigError
from hpc.site import Request, Site, duration_s

ROOT = Path(__file__).parent.parent.parent
BED = Site("bed", "slurm", gpus_per_node=2, ranks_per_node=2, max_nodes=4, time="10m", lead="30s")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("4h", 14400), ("1h30m", 5400), ("2d", 172800), ("90", 5400), ("01:00:00", 3600),
     ("1-12:00:00", 129600)],
)  # fmt: skip
def test_times_are_read_as_people_and_slurm_write_them(text: str, seconds: int) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "4 hours", "h4", "1:00", "-3h"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot read the time"):
        duration_s(text)


def test_ranks_follow_gpus() -> None:
    assert site.fit(BED, Request(nodes=2)).ranks == 4
    assert site.fit(BED, Request(nodes=2, gpus=1)).ranks == 2
    assert site.fit(BED, Request(gpus=0)).ranks == 2
    assert site.fit(BED, Request(gpus=0, ranks=3)).ranks == 3


def test_a_laptop_has_as_many_ranks_as_gpus_and_no_walltime() -> None:
    laptop = site.load("local")
    assert site.fit(laptop, Request(), n_gpus_here=0).ranks == 1
    assert site.fit(laptop, Request(), n_gpus_here=2).ranks == 2
    assert site.fit(laptop, Request()).time_s is None
    assert site.fit(laptop, Request(time="1m")).time_s == 60


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(nodes=5), "--nodes must be 1 to 4 on bed, but got 5"),
        (Request(nodes=0), "--nodes must be 1 to 4"),
        (Request(gpus=3), "--gpus must be 0 to 2 a node on bed, but got 3"),
        (Request(ranks=0), "--ranks must be at least 1"),
        (Request(time="30s"), "--time 30s is not more than the 30s that bed keeps for saving"),
    ],
)
def test_what_a_site_cannot_give_is_refused_with_its_limit(request_: Request, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        site.fit(BED, request_)


def test_an_account_is_asked_for_where_one_is_needed() -> None:
    grant = Site("lem", "slurm", account_required=True)
    with pytest.raises(ConfigError, match="lem needs an account: say --account NAME, or set HPC_ACCOUNT"):
        site.fit(grant, Request())
    assert site.fit(grant, Request(account="hpc-x")).account == "hpc-x"


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs/site").glob("*.yaml")))
def test_every_profile_loads_and_fits(name: str) -> None:
    assert site.fit(site.load(name), Request(account="any")).ranks >= 1


def test_an_unknown_site_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="there is no site 'locl'. Did you mean 'local'"):
        site.load("locl")


def test_a_profile_of_ones_own_goes_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/site").mkdir(parents=True)
    (tmp_path / "configs/site/local.yaml").write_text("kind: local\nmax_nodes: 3\n")
    assert site.load("local").max_nodes == 3


def test_slurm_commands_without_a_configuration_are_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert site.detect({}) == ("slurm" if Path("/etc/slurm/slurm.conf").exists() else "local")
    assert site.detect({"SLURM_CONF": "/x/slurm.conf"}) == "slurm"
    assert site.detect({"HPC_SITE": "bed"}) == "bed"
    monkeypatch.setenv("PATH", "")
    assert site.detect({"SLURM_CONF": "/x/slurm.conf"}) == "local"


def test_gpus_are_counted_without_a_library() -> None:
    assert site.gpus_here({"CUDA_VISIBLE_DEVICES": "0,3"}) == 2
    assert site.gpus_here({"CUDA_VISIBLE_DEVICES": ""}) == 0
    assert site.gpus_here({"CUDA_VISIBLE_DEVICES": "-1"}) == 0
