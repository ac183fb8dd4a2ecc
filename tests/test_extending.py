"""The new members that docs/extending.md shows obey the laws of their families."""

import inspect

import numpy as np
import pytest
import test_models
import test_schedules
import test_solvers
from extending import MixtureDiffusion, PowerLaw, Ralston
from oracles import reference_flow
from sklearn.utils.estimator_checks import parametrize_with_checks
from tables import SMOOTH_SCHEDULES, cases

from alignlearn import LyapunovManifold


def laws(module, *arguments):
    """Tests of a family that take these arguments and no others."""
    found = [
        f
        for name, f in vars(module).items()
        if name.startswith("test_") and tuple(inspect.signature(f).parameters) == arguments
    ]
    assert found, f"no law in {module.__name__} takes {arguments}"
    return pytest.mark.parametrize("law", found, ids=lambda law: law.__name__)


def make_model(**options):
    return MixtureDiffusion(**({"n_components": 1, "random_state": 0} | options))


@laws(test_schedules, "schedule")
def test_new_schedule_obeys_every_law(law):
    law(PowerLaw())


@pytest.mark.parametrize("schedule", **cases(SMOOTH_SCHEDULES | {"power law": PowerLaw()}))
def test_new_solver_has_the_declared_order(schedule):
    references = {1: reference_flow(test_solvers.mixture.denoise, test_solvers.starts, 3.0, 0.3)}
    law = test_solvers.test_slope_of_the_error_is_the_declared_order
    law(lambda schedule: Ralston(), schedule, references)


@laws(test_solvers, "make_solver")
def test_new_solver_obeys_every_law(law):
    law(lambda schedule: Ralston())


@laws(test_models, "make_model")
def test_new_model_obeys_every_law(law):
    law(make_model)


@laws(test_models, "fitted")
def test_fitted_new_model_obeys_every_law(law):
    X = test_models.gaussian_sample(60)
    law((make_model().fit(X), X))


@laws(test_models, "learned")
def test_new_model_that_has_learned_obeys_every_law(law):
    X = test_models.gaussian_sample()
    law((make_model().fit(X), X))


@parametrize_with_checks([MixtureDiffusion(2)])
def test_new_model_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


def test_new_model_and_solver_find_the_planes_they_are_made_of(rng):
    """Two flat pieces in R^4: the tangent space is that of the own piece."""
    flat = rng.normal(size=(200, 2, 2))
    X = np.zeros((200, 2, 4))
    X[:, 0, :2], X[:, 1, 1:3] = flat[:, 0], flat[:, 1]
    X[:, 1, 3] = 30
    X = X.reshape(-1, 4)
    model = MixtureDiffusion(2, random_state=0)
    m = LyapunovManifold(model=model, solver=Ralston(), n_steps=12, random_state=0).fit(X)
    projectors = (v := m.tangent_space(X[:2])) @ v.swapaxes(1, 2)
    np.testing.assert_allclose(projectors[0], np.diag([1.0, 1, 0, 0]), atol=0.02)
    np.testing.assert_allclose(projectors[1], np.diag([0, 1.0, 1, 0]), atol=0.02)
