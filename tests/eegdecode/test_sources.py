"""Courses of regions and places, from EEG and MEG, by surfaces and by a sphere: against mne, and against what was
planted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from mne.minimum_norm import apply_inverse_raw, make_inverse_operator

from eegdecode import sphere
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.localisation import files, head, regions
from eegdecode.preprocessing.steps.sources import Sources
from eegdecode.signals import Kind, Sensor, Signal, Stream
from hpc import config
from tests.eegdecode import heads
from tests.eegdecode.test_steps import Chain

ELECTRODES = tuple(sphere.ten_ten())[:64]
SFREQ, N = 100.0, 4000
SEED_WORDS = (
    "Early Visual", "ventral stream", "MT+ complex", "Dorsal stream", "Auditory", "Early Auditory",
    "Auditory Association",
)  # fmt: skip


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SUBJECTS_DIR with one subject and an average head."""
    folder = tmp_path_factory.mktemp("subjects")
    heads.write(folder / "sub-01")
    heads.write(folder / "fsaverage")
    return folder


def scalp(data: np.ndarray | None = None, names: Sequence[str] = ELECTRODES) -> Stream:
    places = sphere.ten_ten()
    sensors = {name: Sensor("eeg", tuple(heads.SKIN_M * places[name])) for name in names}
    data = np.zeros((10, len(names))) if data is None else data
    return replace(Signal(data.astype(np.float32), SFREQ, tuple(names), sensors).stream(), subject="sub-01")


def helmet() -> Stream:
    """Magnetometers on a ball around the head, as a file of mne has them."""
    points = 0.115 * np.array([place for place in sphere.ten_ten().values()])
    names = [f"MEG{index:03d}" for index in range(len(points))]
    info = mne.create_info(names, SFREQ, "mag")
    for channel, point in zip(info["chs"], points, strict=True):
        out = point / np.linalg.norm(point)
        side = np.cross(out, [0.3, 0.5, 0.8])
        side /= np.linalg.norm(side)
        channel["loc"][:12] = np.concatenate([point, side, np.cross(out, side), out])
        channel["coil_type"] = mne.io.constants.FIFF.FIFFV_COIL_POINT_MAGNETOMETER
    with info._unlock():
        info["dev_head_t"] = mne.Transform("meg", "head")
    sensors = {name: Sensor("mag") for name in names}
    data = np.zeros((10, len(names)), np.float32)
    return replace(Signal(data, SFREQ, tuple(names), sensors).stream(), subject="sub-01", info=info)


def planted(model: head.Head, rows: np.ndarray, tilt: float = 0.0, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """The course of a dipole in the middle of a region, and what the sensors have of it, of thirty others, and of noise
    of their own. `tilt`: how much of the dipole lies along the surface."""
    rng = np.random.default_rng(0)
    forward = mne.convert_forward_solution(model.forward, surf_ori=True, verbose="error")["sol"]["data"]
    middle = model.positions[rows].mean(axis=0)
    at = rows[np.linalg.norm(model.positions[rows] - middle, axis=1).argmin()]
    course = np.convolve(rng.normal(size=N), np.ones(8) / 8, "same")
    course -= course.mean()
    field = forward[:, 3 * at + 2] + tilt * forward[:, 3 * at]
    seen = np.outer(course / course.std(), 20e-9 * field)
    others = rng.normal(size=(N, 30)) @ (2e-9 * forward[:, 3 * rng.choice(len(model.positions), 30) + 2].T)
    return course, seen + others + noise * seen.std() * rng.normal(size=seen.shape)


def like(data: np.ndarray, stream: Stream) -> Stream:
    signal = Signal(data.astype(np.float32), SFREQ, stream.channels, stream.sensors)
    return replace(stream, n_times=len(data), read=signal.stream().read)


def correlations(course: np.ndarray, stream: Stream) -> dict[str, float]:
    data = stream.read(0, stream.n_times)
    return {name: abs(np.corrcoef(course, data[:, k])[0, 1]) for k, name in enumerate(stream.channels)}


def of_files(cfg: Sources, stream: Stream) -> tuple[head.Head, dict[str, np.ndarray]]:
    there = files.of_head(cfg, stream.subject)
    model = head.of_files(stream, there)
    return model, head.in_regions(model, cfg.regions, there.annot, cfg.parcellation)


@pytest.mark.parametrize("method", ["eLORETA", "dSPM", "LCMV"])
@pytest.mark.parametrize("sensors", ["eeg", "mag"])
def test_a_planted_dipole_comes_back_in_its_region(subjects: Path, method: str, sensors: Kind) -> None:
    cfg = Sources(folder=str(subjects / "{subject}"), method=method)  # type: ignore[arg-type]
    empty = scalp() if sensors == "eeg" else helmet()
    model, rows = of_files(cfg, empty)
    course, data = planted(model, rows["occipital-rh"], tilt=0.0 if sensors == "eeg" else 3.0)
    estimate = chains.apply([cfg], like(data, empty))
    r = correlations(course, estimate)
    assert r["occipital-rh"] > 0.95 and max(r, key=lambda name: r[name]) == "occipital-rh", r
    assert {sensor.kind for sensor in estimate.sensors.values()} == {"source"}
    (note,) = estimate.decisions.notes
    assert f"{method} on sub-01 (the subject's own)" in note and "first component" in note and "% of its power" in note


@pytest.mark.parametrize(("course", "mode"), [("first_component", "pca_flip"), ("mean_flip", "mean_flip")])
@pytest.mark.parametrize("method", ["eLORETA", "dSPM"])
def test_a_course_is_that_of_mne(subjects: Path, course: str, mode: str, method: str) -> None:
    cfg = Sources(folder=str(subjects / "sub-01"), course=course, method=method)  # type: ignore[arg-type]
    model, rows = of_files(cfg, scalp())
    data = planted(model, rows["temporal-lh"])[1].astype(np.float32)
    ours = chains.apply([cfg], like(data, scalp()))

    raw = mne.io.RawArray(data.T.astype(float), model.info, verbose="error")
    raw.set_eeg_reference(projection=True, verbose="error")
    noise = mne.make_ad_hoc_cov(raw.info, verbose="error")
    inverse = make_inverse_operator(raw.info, model.forward, noise, loose="auto", verbose="error")
    estimate = apply_inverse_raw(raw, inverse, 1 / 9, method, pick_ori="normal", verbose="error")
    annot = regions.of_parcellation(files.of_head(cfg, "sub-01").annot)
    labels = [mne.Label(annot[name], hemi=name[-2:], subject=estimate.subject) for name in ours.channels]
    theirs = mne.extract_label_time_course(estimate, labels, inverse["src"], mode=mode, verbose="error")
    np.testing.assert_allclose(ours.read(0, N).T, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("parcellation", ["HCPMMP1", "HCPMMP1_combined"])
def test_groups_of_hcp_have_the_names_of_papers(subjects: Path, parcellation: str) -> None:
    cfg = Sources(folder=str(subjects / "sub-01"), parcellation=parcellation, regions=("early visual", "Auditory-lh"))
    assert chains.apply([cfg], scalp(np.random.default_rng(0).normal(size=(100, 64)))).channels == cfg.regions
    model, rows = of_files(cfg, scalp())
    assert (model.positions[rows["early visual"], 1] < 0).all() and len(
        {*np.sign(model.positions[rows["early visual"], 0])}
    ) == 2
    assert (model.positions[rows["Auditory-lh"], 0] < 0).all()
    for word in SEED_WORDS:
        group = regions.group_of(word)
        assert group is not None
        there = {f"{side[0].upper()}_{area}_ROI-{side}": np.arange(1) for area in group.areas for side in ("lh", "rh")}
        whole = {f"{name}-{side}": np.arange(1) for name in group.combined for side in ("lh", "rh")}
        assert len(regions.parcels(word, there, "HCPMMP1")) == 2 * len(group.areas)
        assert len(regions.parcels(f"{word}-rh", whole, "HCPMMP1_combined")) == len(group.combined)


def test_a_place_in_the_mni_has_the_sources_around_it(subjects: Path) -> None:
    cfg = Sources(
        folder=str(subjects / "fsaverage"), places={"here": (-66, -10, 15), "there": (66, -10, 15)}, radius_mm=15
    )
    there = files.of_head(cfg, "sub-01")
    model = head.of_files(scalp(), there)
    rows = head.in_places(model, there, cfg.places, cfg.radius_mm)
    away = np.linalg.norm(1e3 * model.positions - cfg.places["here"], axis=1)
    assert set(rows["here"]) == set(np.flatnonzero(away <= 15)) and len(rows["here"]) > 3
    course, data = planted(model, rows["here"])
    r = correlations(course, chains.apply([cfg], scalp(data)))
    assert r["here"] > 0.95 > r["there"]
    with pytest.raises(
        ValueError, match="no source lies in nowhere: choose a larger region, or raise sources.radius_mm"
    ):
        chains.apply([replace(cfg, places={"nowhere": (0, 0, 200)})], scalp())


def test_without_surfaces_a_sphere_stands_in_and_says_so() -> None:
    wanted = ("Auditory-lh", "Auditory-rh", "Early Visual")
    cfg = Sources(model="sphere", method="dSPM", regions=wanted, places={"Cz": (0, -20, 65)})
    model = head.sphere(scalp())
    rows = head.in_sphere(model, cfg.regions, cfg.places, cfg.radius_mm)
    x, y, z = (model.positions[rows[name]].mean(axis=0) for name in ("Auditory-lh", "Early Visual", "Cz"))
    assert x[0] < -0.03 and y[1] < -0.05 and z[2] > 0.05
    course, data = planted(model, rows["Auditory-lh"])
    estimate = chains.apply([cfg], scalp(data))
    r = correlations(course, estimate)
    assert r["Auditory-lh"] > 0.95 and max(r, key=lambda name: r[name]) == "Auditory-lh", r
    assert "a sphere of 95 mm as a stand-in for the head, without its surfaces" in estimate.decisions.notes[0]
    unplaced = chains.apply([cfg], replace(scalp(data), sensors={}))
    assert unplaced.decisions.notes[0].split(";")[0].endswith("electrodes by name")
    assert correlations(course, unplaced)["Auditory-lh"] > 0.9
    assert len(chains.apply([Sources(model="sphere", method="dSPM")], scalp(data)).channels) == 2 * len(regions.GROUPS)
    with pytest.raises(ValueError, match="a sphere has no region 'superiortemporal-lh': it knows Primary Visual"):
        chains.apply([replace(cfg, regions=("superiortemporal-lh",))], scalp())


def test_31_components_at_4_places_are_the_124_features_of_daly() -> None:
    rng = np.random.default_rng(0)
    names = ELECTRODES[:31]
    courses = np.cumsum(rng.laplace(size=(N, 31)), axis=0) % 7.0
    data = 1e-6 * courses @ rng.normal(size=(31, 31))
    places = {"one": (-50, -20, 5), "two": (50, -20, 5), "three": (0, -70, 10), "four": (0, 40, 30)}
    cfg = Sources(model="sphere", places=places, radius_mm=12, ica=True, method="dSPM")  # type: ignore[arg-type]
    stream = chains.apply([cfg], scalp(data, names))
    assert stream.n_channels == 124 and stream.channels[0] == "one ICA000" and stream.channels[-1] == "four ICA030"
    out = stream.read(0, N).reshape(N, 4, 31).astype(float)
    assert np.linalg.matrix_rank(out[:, 0] / out[:, 0].std(axis=0), tol=1.0) == 31
    for place in (1, 2, 3):  # a component's course, times a factor
        factor = (out[:, place] * out[:, 0]).sum(axis=0) / (out[:, 0] ** 2).sum(axis=0)
        np.testing.assert_allclose(out[:, place], factor * out[:, 0], atol=1e-4 * np.abs(out[:, place]).max())
    assert "for each of 31 independent components alone" in stream.decisions.notes[0]


def test_blocks_give_the_numbers_of_the_whole_again_and_again(subjects: Path) -> None:
    cfg = Sources(folder=str(subjects / "sub-01"))
    data = np.random.default_rng(1).normal(size=(500, 64)) * 1e-5
    once, again = (chains.apply([cfg], scalp(data)) for _ in range(2))
    whole = once.read(0, 500)
    assert whole.dtype == np.float32 and (whole == again.read(0, 500)).all()
    blocks = np.concatenate([once.read(0, 123), once.read(123, 500)])
    np.testing.assert_allclose(blocks, whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())


def test_what_is_missing_is_named_with_where_it_comes_from(subjects: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks bem/fsaverage-ico-5-src.fif, .*fetch_fsaverage\('.*'\).*model=sphere"):
        chains.apply([Sources(folder=str(tmp_path / "fsaverage"))], scalp())
    no_hcp = heads.write(tmp_path / "two" / "fsaverage", ("aparc",))
    with pytest.raises(ValueError, match=r"lacks label/lh.HCPMMP1.annot, .*fetch_hcp_mmp_parcellation"):
        chains.apply([Sources(folder=str(no_hcp), parcellation="HCPMMP1")], scalp())
    cfg = Sources(folder=str(subjects / "{subject}"), places={"here": (0, 0, 0)})
    with pytest.raises(
        ValueError, match=r"sub-01, but .* lacks mri/transforms/talairach.xfm, mri/orig.mgz: .*recon-all"
    ):
        chains.apply([cfg], scalp())
    with pytest.raises(ValueError, match=r"the head of sub-02, but .* lacks bem/\*-src.fif, .*mne.setup_source_space"):
        Sources(folder=str(subjects / "{subject}")).check_subjects(["sub-01", "sub-02"])
    (subjects / "sub-01" / "bem" / "second-src.fif").touch()
    with pytest.raises(ValueError, match=r"has several files .*second-src.fif.*; choose one by sources.src"):
        Sources(folder=str(subjects / "{subject}")).check_subjects(["sub-01"])
    Sources(folder=str(subjects / "{subject}"), src="bem/{subject}-ico-3-src.fif").check_subjects(["sub-01"])
    (subjects / "sub-01" / "bem" / "second-src.fif").unlink()
    with pytest.raises(ValueError, match="aparc has no region 'temporl-lh'. Did you mean 'temporal-lh'?"):
        chains.apply([Sources(folder=str(subjects / "sub-01"), regions=("temporl-lh",))], scalp())
    with pytest.raises(ValueError, match="'Early Visual' is a group of areas of HCP-MMP1, which aparc does not have"):
        Sources(folder=str(subjects / "sub-01"), regions=("Early Visual",)).check_subjects(["sub-01"])


@pytest.mark.parametrize("cut", [2, 5000])
def test_a_damaged_annotation_is_named(subjects: Path, tmp_path: Path, cut: int) -> None:
    whole = (subjects / "sub-01" / "label" / "lh.aparc.annot").read_bytes()
    (tmp_path / "lh.aparc.annot").write_bytes(whole[:cut])
    with pytest.raises(ValueError, match="lh.aparc.annot is cut off, or no annotation of FreeSurfer"):
        regions.read_annot(tmp_path / "lh.aparc.annot")


def test_sensors_that_cannot_be_placed_are_refused() -> None:
    def named(**kinds: Kind) -> Stream:
        sensors = {name: Sensor(kind) for name, kind in kinds.items()}
        return Signal(np.zeros((10, len(kinds)), np.float32), SFREQ, tuple(kinds), sensors).stream()

    cfg = Sources(model="sphere")
    for stream, message in (
        (named(Cz="eeg", EOG="eog"), r"from EEG and MEG, not from EOG: pick kinds: \[eeg, mag, grad\] before"),
        (named(Cz="eeg", E1="eeg"), "the position of Cz, E1 is not known; give electrodes.tsv"),
        (named(MEG1="mag"), "needs the coils, which are not known of MEG1"),
        (scalp(names=ELECTRODES[:4]), "a sphere is fitted to 8 electrodes or digitised points of the head, and"),
    ):
        with pytest.raises(ValueError, match=message):
            chains.apply([cfg], stream)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "folder is the folder of a head, .* or set model=sphere"),
        ({"folder": "x", "snr": 0}, "snr must be above 0, got 0"),
        ({"folder": "x", "radius_mm": -1}, "radius_mm must be above 0, got -1"),
        ({"folder": "x", "places": {"Heschl": [1, 2]}}, "a place is x, y, z in mm, got 2 numbers for Heschl"),
        ({"folder": "x", "places": {"A": [1, 2, 3]}, "regions": ["A"]}, "A is a region and a place"),
        ({"model": "sphere", "course": "mean_flip"}, "mean_flip needs the normals of surfaces"),
        ({"folder": "x", "lambda2": 0.1}, "lambda2 is 1 / snr²"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.build(Chain, {"steps": [{"name": "sources", **settings}]}, "preprocess")
