"""scikit-learn's own contract, with no expected failure."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from tables import MODELS

from alignlearn import LyapunovManifold

ESTIMATORS = [
    *(make() for make in MODELS.values()),
    *(
        LyapunovManifold(model=make(), n_steps=2, n_paths=1, n_reference=20, random_state=0)
        for make in MODELS.values()
    ),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS)
def test_estimator_keeps_scikit_learns_contract(estimator, check):
    check(estimator)
