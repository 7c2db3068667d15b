"""Any model as an estimator of scikit-learn: its conventions, and that it learns what is there."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_array

from eegdecode import EEGClassifier, EEGRegressor

SMALL = {"sfreq": 64, "steps": 25, "batch": 16, "lr": 0.01}


def windows(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Windows of four channels; in those of the class `loud`, the third is three times as loud."""
    rng = np.random.default_rng(0)
    y = np.array(["loud", "quiet"])[np.arange(n) % 2]
    X = rng.normal(size=(n, 4, 64))  # noqa: N806  as in scikit-learn
    X[y == "loud", 2] *= 3
    return X, y


def halved(x: np.ndarray) -> np.ndarray:
    return x / 2


class Flat:
    """Takes what scikit-learn's checks give, [window, feature], as channels that stay the same for 32 samples."""

    def fit(self, x: Any, y: Any) -> Any:
        return super().fit(self.deep(x), y)  # type: ignore[misc]

    def _decode(self, x: Any) -> Any:
        return super()._decode(self.deep(x))  # type: ignore[misc]

    def deep(self, x: Any) -> np.ndarray:
        flat = check_array(x, dtype=np.float32, input_name="X")
        return np.repeat(flat[:, :, None], 32, axis=2)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, False
        for kind in (tags.classifier_tags, tags.regressor_tags):
            if kind is not None:
                kind.poor_score = True  # after one step
        return tags


class FlatClassifier(Flat, EEGClassifier):
    pass


class FlatRegressor(Flat, EEGRegressor):
    pass


QUICK = {"model": {"name": "eegnet", "filters": 1, "kernel": 4}, "sfreq": 32, "steps": 1}
CHECKS = {
    "check_classifiers_one_label", "check_classifiers_regression_target", "check_dict_unchanged",
    "check_dont_overwrite_attributes", "check_estimator_cloneable", "check_estimator_get_tags_default_keys",
    "check_estimators_unfitted", "check_fit_check_is_fitted", "check_get_params_invariance", "check_mixin_order",
    "check_n_features_in", "check_no_attributes_set_in_init", "check_parameters_default_constructible",
    "check_requires_y_none", "check_set_params",
}  # fmt: skip
"""Those of check_estimator that train seldom. All others but that of array_api pass too."""
GIVEN = [
    (estimator, check)
    for estimator in (FlatClassifier(**QUICK), FlatRegressor(**QUICK))
    for _, check in estimator_checks_generator(estimator)
    if (check.func if hasattr(check, "func") else check).__name__ in CHECKS
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"), GIVEN, ids=[f"{type(one).__name__}-{check.func.__name__}" for one, check in GIVEN]
)
def test_it_keeps_the_conventions_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_it_learns_classes_by_their_names_and_works_in_pipelines_and_searches() -> None:
    x, y = windows()
    decoder = EEGClassifier({"name": "eegnet", "filters": 4}, **SMALL, settings={"optim.weight_decay": 0.0})
    assert np.mean(cross_val_predict(decoder, x, y, cv=2) == y) > 0.75
    scaled = make_pipeline(FunctionTransformer(halved), decoder)
    search = GridSearchCV(scaled, {"eegclassifier__steps": [1, 25]}, cv=2).fit(x, y)
    best = search.best_estimator_[-1]
    assert search.best_params_ == {"eegclassifier__steps": 25} and best.classes_.tolist() == ["loud", "quiet"]
    probabilities = search.predict_proba(x)
    assert probabilities.shape == (60, 2) and np.allclose(probabilities.sum(axis=1), 1)
    assert (search.predict(x) == best.classes_[probabilities.argmax(axis=1)]).all()
    assert ((search.decision_function(x) > 0) == (search.predict(x) == "quiet")).all()
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict_proba(x), probabilities)
    assert best.decoder_.classes == ("loud", "quiet") and best.history_[-1]["step"] == 25


def test_the_same_seed_gives_the_same_network_and_leaves_that_of_torch_alone() -> None:
    import torch

    x, y = windows()
    decoder = EEGClassifier(**{**SMALL, "steps": 3}, random_state=5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = decoder.fit(x, y).predict_proba(x)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(clone(decoder).fit(x, y).predict_proba(x), one)
    assert not np.array_equal(clone(decoder).set_params(random_state=6).fit(x, y).predict_proba(x), one)


def test_it_decodes_numbers_and_validates_on_groups_of_its_own() -> None:
    x, y = windows()
    numbers = np.stack([(y == "loud") * 2.0 - 5, (y == "quiet") * 1.0], axis=1)
    regressor = EEGRegressor("eegnet", **SMALL).fit(x, numbers, groups=np.arange(60) // 15)
    assert regressor.predict(x).shape == (60, 2) and regressor.score(x, numbers) > 0.3
    assert regressor.decoder_.spec.subjects == ("group-0", "group-1", "group-2", "group-3")
    flat = EEGRegressor("eegnet", **{**SMALL, "steps": 2}).fit(x, numbers[:, 0])
    assert flat.predict(x[:3]).shape == (3,)


@pytest.mark.parametrize(
    ("settings", "change", "sentence"),
    [
        ({"model": "eegnt"}, lambda x, y: (x, y), "Did you mean 'eegnet'"),
        ({"settings": {"optim.lrr": 1}}, lambda x, y: (x, y), "optim has no setting 'lrr'"),
        ({"channels": ["Cz"]}, lambda x, y: (x, y), "channels has 1 names, but the windows have 4 channels"),
        ({"validation": 1.0}, lambda x, y: (x, y), "validation is a fraction of the windows"),
        ({}, lambda x, y: (x[:, :, :9], y), "got 4 channels x 9 samples; needs at least 32 samples"),
        ({}, lambda x, y: (x, ["a"] * len(y)), "there is nothing to classify: y has 1 class, a"),
        ({}, lambda x, y: (x[:, 0], y), r"X is \[window, channel, time\], but got an array of shape \(60, 64\)"),
        ({}, lambda x, y: (x * np.nan, y), "Input X contains NaN"),
        ({}, lambda x, y: (x[:2], y[:2]), "n_samples=2: training needs 3 windows at least"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(settings: Any, change: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EEGClassifier(**{**SMALL, **settings}).fit(*change(*windows()))
