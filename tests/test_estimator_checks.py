"""scikit-learn's own contract, with no expected failure.

`make contract SKLEARN=1.6.1` runs this and what belongs to it with another scikit-learn.
"""

import inspect

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from tables import MODELS as FAMILIES
from tables import cases

from alignlearn import LyapunovManifold, ManifoldSupport

# Thousands of densities of single rows: one network, whose mean with another is no other class.
MODELS = FAMILIES | {"Diffusion": lambda: FAMILIES["Diffusion"](n_estimators=1)}


def manifold(make_model):
    return lambda: LyapunovManifold(
        model=make_model(), n_steps=2, n_paths=1, n_reference=10, random_state=0
    )


def support(make_model):
    return lambda: ManifoldSupport(manifold(make_model)(), n_report=10, random_state=0)


# What wraps a model hands on to it what depends on its family: a trained one and a closed form.
ESTIMATORS = (
    MODELS
    | {"ManifoldSupport(Diffusion)": support(MODELS["Diffusion"])}
    | {f"LyapunovManifold({n})": manifold(MODELS[n]) for n in ("Diffusion", "GaussianModel")}
)
TRANSFORMERS = {"LyapunovManifold(GaussianModel)": manifold(MODELS["GaussianModel"])}

# What `check_estimator` leaves out, by the names of scikit-learn 1.6 to 1.9; those that a version
# does not have are passed over. `check_param_validation` is not among them: it wants the private
# `_parameter_constraints`, and the last test here is its law.
CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimators_fit_returns_self",
    "check_n_features_in_after_fitting",
    "check_readonly_memmap_input",
]
TRANSFORMER_CHECKS = [
    "check_get_feature_names_out_error",
    "check_global_ouput_transform_pandas",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # 1.6 and 1.7 check data frames in ways that pandas 3 and numpy 2.4 warn of.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:sklearn"),
]


def checks(names):
    """Checks of the scikit-learn at hand."""
    return [getattr(estimator_checks, name) for name in names if hasattr(estimator_checks, name)]


@parametrize_with_checks([make() for make in ESTIMATORS.values()])
def test_estimator_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", checks(CHECKS), ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", **cases(ESTIMATORS))
def test_estimator_passes_the_checks_that_scikit_learn_leaves_out(make, check):
    estimator = make()
    check(type(estimator).__name__, estimator)


@pytest.mark.parametrize("check", checks(TRANSFORMER_CHECKS), ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", **cases(TRANSFORMERS))
def test_transformer_passes_the_checks_that_scikit_learn_leaves_out(make, check):
    estimator = make()
    check(type(estimator).__name__, estimator)


class Nonsense:
    """Of no type that any parameter can have."""


def parameters():
    """Every estimator with every one of its parameters."""
    for name, make in ESTIMATORS.items():
        if name in MODELS or name.endswith("(Diffusion)"):
            for parameter in inspect.signature(type(make())).parameters:
                yield pytest.param(make, parameter, id=f"{name}-{parameter}")


@pytest.mark.parametrize("make, parameter", list(parameters()))
@pytest.mark.parametrize("value", [Nonsense(), "nonsense", [], float("nan")])
def test_every_parameter_refuses_nonsense_and_is_named(make, parameter, value, rng):
    if parameter == "checkpoint" and isinstance(value, str):
        pytest.skip("any string is a folder")
    estimator = make().set_params(**{parameter: value})
    with pytest.raises((TypeError, ValueError), match=parameter):
        estimator.fit(rng.standard_normal((12, 3)))
