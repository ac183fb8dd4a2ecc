"""Bad input: a clear ValueError or a right answer, never a silent NaN."""

from functools import cache

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from tables import MODELS

from alignlearn import LyapunovManifold, ManifoldSupport

D = 3


def manifold(name):
    return lambda: LyapunovManifold(
        model=MODELS[name](), n_steps=3, n_paths=2, n_reference=10, random_state=0
    )


def support():
    return ManifoldSupport(manifold("KernelDiffusion")(), random_state=0)


ESTIMATORS = MODELS | {f"LyapunovManifold({name})": manifold(name) for name in MODELS}
# What wraps a model leaves the rows to it: one stands for all.
OTHER_WRAPPERS = {f"LyapunovManifold({name})" for name in MODELS if name != "Diffusion"}
ESTIMATORS["ManifoldSupport"] = support
GEOMETRY = ["lyapunov_exponents", "tangent_space", "dimension"]
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def clean(n=40, D=D):
    """Rows near a line."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, D)) * np.r_[2.0, np.full(D - 1, 0.1)] + 1.0


def with_value(value):
    X = clean()
    X[3, 1] = value
    return X


REFUSED = {  # what fit gets, and a word the message must have
    "NaN": (with_value(np.nan), "NaN"),
    "infinity": (with_value(np.inf), "infinity"),
    "minus infinity": (with_value(-np.inf), "infinity"),
    "no rows": (np.zeros((0, D)), "0 sample"),
    "no columns": (np.zeros((12, 0)), "0 feature"),
    "1-D": (clean()[:, 0], "2D array"),
    "3-D": (clean()[None], "dim 3"),
    "one row": (clean()[:1], "minimum of 2|minimum of 10|1 sample"),
    "equal rows": (np.tile(clean()[:1], (12, 1)), "constant"),
    "zeros": (np.zeros((12, D)), "constant"),
    "words": (np.array([["a", "b"], ["c", "d"]]), "convert|numeric"),
    "complex": (clean() + 1j, "Complex"),
}
ANSWERED = {
    "two rows": clean(2),
    "three rows": clean(3),
    "fewer rows than features": clean(6, 12),
    "many features": clean(10, 140),
    "one feature": clean()[:, :1],
    "duplicates": np.repeat(clean(6), 5, axis=0),
    "all but one equal": np.r_[np.tile(clean(1), (20, 1)), clean(2)[1:]],
    "a constant column": np.c_[clean(), np.full(40, 7.0)],
    "a column twice": np.c_[clean(), clean()[:, 0]],
    "an outlier": with_value(1e6),
    "huge": clean() * 1e300,
    "tiny": clean() * 1e-300,
    "subnormal": clean() * 1e-310,
    "offset": clean() + 1e8,
    "integers": (clean() * 100).astype(int),
    "float32": clean().astype(np.float32),
    "booleans": clean() > 1,
    "a list": clean().tolist(),
    "Fortran order": np.asfortranarray(clean()),
    "read-only": np.frombuffer(clean().tobytes()).reshape(-1, D),
}


def questions(estimator):
    """What an estimator is asked; a manifold hands densities and samples on to its model."""
    if isinstance(estimator, LyapunovManifold):
        return GEOMETRY
    return [q for q in ("score_samples", "decision_function", "predict") if hasattr(estimator, q)]


def answers(estimator, X):
    """All answers at a few rows, by question."""
    found = {question: getattr(estimator, question)(X[:4]) for question in questions(estimator)}
    return found | {"sample": estimator.sample(3)} if hasattr(estimator, "denoiser") else found


@every_estimator
@pytest.mark.parametrize("case", REFUSED)
def test_fit_refuses(name, case):
    X, word = REFUSED[case]
    estimator = ESTIMATORS[name]()
    with pytest.raises(ValueError, match=word):
        estimator.fit(X)
    with pytest.raises(NotFittedError):  # nothing is half-fitted
        estimator.score_samples(clean())


@pytest.mark.parametrize(
    "name, case",
    [  # a support cannot be told from so few rows
        (name, case)
        for name in ESTIMATORS
        if name not in OTHER_WRAPPERS
        for case, X in ANSWERED.items()
        if name != "ManifoldSupport" or len(X) >= 10
    ],
)
def test_fit_answers_with_finite_numbers(name, case):
    X = ANSWERED[case]
    estimator = ESTIMATORS[name]()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = answers(estimator.fit(X), X)
    for question, answer in found.items():
        assert np.isfinite(answer).all(), question
    vectors = found.get("tangent_space")
    if vectors is not None:
        gram = np.swapaxes(vectors, 1, 2) @ vectors
        np.testing.assert_allclose(
            gram, np.broadcast_to(np.eye(gram.shape[-1]), gram.shape), atol=1e-5
        )


@cache
def fitted(name):
    """Fitted to clean rows; not to be changed."""
    return ESTIMATORS[name]().fit(clean())


@cache
def fitted_answers(name):
    """Of `fitted`, at the rows it was fitted to."""
    return answers(fitted(name), clean())


@every_estimator
@pytest.mark.parametrize("unit", [1e300, 1e-300])
def test_units_change_neither_exponents_nor_tangents(name, unit):
    expected = fitted_answers(name)
    actual = answers(ESTIMATORS[name]().fit(clean() * unit), clean() * unit)
    if "sample" in expected:
        np.testing.assert_allclose(actual["sample"] / unit, expected["sample"], atol=1e-4)
    for question in {"lyapunov_exponents", "dimension"} & expected.keys():
        np.testing.assert_allclose(actual[question], expected[question], atol=1e-3)


@every_estimator
@pytest.mark.parametrize(
    "case", [case for case in REFUSED if case not in ("one row", "equal rows", "zeros")]
)
def test_questions_refuse_what_fit_refuses(name, case):
    X, word = REFUSED[case]
    estimator = fitted(name)
    for question in questions(estimator):
        with pytest.raises(ValueError, match=f"{word}|features"):
            getattr(estimator, question)(X)


@every_estimator
def test_questions_refuse_another_number_of_features(name):
    estimator = fitted(name)
    for question in questions(estimator):
        with pytest.raises(ValueError, match="X has 5 features, but .* is expecting 3"):
            getattr(estimator, question)(clean(4, 5))


@every_estimator
@pytest.mark.parametrize("distance", [1e3, 1e30, 1e60, 1e300])
def test_points_far_from_the_data_get_a_finite_answer_or_an_error_that_says_so(name, distance):
    estimator = fitted(name)
    far = clean(4) * distance
    for question in questions(estimator):
        try:
            answer = getattr(estimator, question)(far)
        except (ValueError, FloatingPointError) as error:
            assert "training data" in str(error)
        else:
            assert np.isfinite(answer).all(), question


@every_estimator
def test_questions_before_fit_are_refused(name):
    estimator = ESTIMATORS[name]()
    for question in [*questions(estimator), "score_samples"]:
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(estimator, question)(clean())


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "ManifoldSupport"])
def test_sampling_before_fit_is_refused(name):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        ESTIMATORS[name]().sample(2)


BAD_PARAMETERS = [
    ("GaussianModel", {"s_min": -1.0}),
    ("GaussianModel", {"s_min": 20.0}),
    ("GaussianModel", {"window": (0.2, 0.02)}),
    ("GaussianModel", {"window": (1e-9, 0.2)}),
    ("GaussianModel", {"device": "no such device"}),
    ("KernelDiffusion", {"s_min": 0.0}),
    ("KernelDiffusion", {"s_max": -1.0}),
    ("KernelDiffusion", {"s_min": 50.0}),
    ("KernelDiffusion", {"n_neighbors": 0}),
    ("Diffusion", {"max_iter": 0}),
    ("Diffusion", {"batch_size": 0}),
    ("Diffusion", {"learning_rate": 0.0}),
    ("Diffusion", {"s_min": 10.0}),
    ("Diffusion", {"window": (0.2, 0.02)}),
    ("Diffusion", {"window": (1e-9, 0.2)}),
    ("Diffusion", {"validation_fraction": 1.5}),
    ("Diffusion", {"width": -4}),
    ("LyapunovManifold(GaussianModel)", {"n_components": 0}),
    ("LyapunovManifold(GaussianModel)", {"n_components": D + 1}),
    ("LyapunovManifold(GaussianModel)", {"n_steps": 0}),
    ("LyapunovManifold(GaussianModel)", {"n_paths": 0}),
    ("LyapunovManifold(GaussianModel)", {"n_reference": 0}),
    ("LyapunovManifold(GaussianModel)", {"n_oversamples": -1}),
    ("LyapunovManifold(GaussianModel)", {"n_iter": -1}),
    ("LyapunovManifold(GaussianModel)", {"window": (0.2, 0.02)}),
    ("LyapunovManifold(GaussianModel)", {"window": (0.0, 0.02)}),
    ("LyapunovManifold(GaussianModel)", {"solver": "ddim"}),
    ("LyapunovManifold(GaussianModel)", {"device": "no such device"}),
]


@pytest.mark.parametrize("name, parameters", BAD_PARAMETERS, ids=str)
def test_fit_refuses_bad_parameters_by_name(name, parameters):
    (parameter,) = parameters
    with pytest.raises(ValueError, match=parameter):
        ESTIMATORS[name]().set_params(**parameters).fit(clean())


@pytest.mark.parametrize("n_components", [0, -1, D + 1])
def test_impossible_number_of_tangent_vectors_is_refused(n_components):
    estimator = ESTIMATORS["LyapunovManifold(GaussianModel)"]().fit(clean())
    with pytest.raises(ValueError, match="n_components must be between 1 and n_features = 3"):
        estimator.tangent_space(clean(), n_components)


@every_estimator
def test_refit_forgets_the_first_fit(name):
    """An estimator fitted to wide data, then to the clean rows, is as one fitted to those only."""
    once = fitted_answers(name)
    twice = answers(ESTIMATORS[name]().fit(clean(30, 7)).fit(clean()), clean())
    for question, answer in once.items():
        np.testing.assert_array_equal(twice[question], answer)
