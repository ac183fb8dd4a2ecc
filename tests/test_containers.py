"""Frames, tensors and lists in; what is asked for out; what cannot be read is refused by name."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.preprocessing import StandardScaler
from tables import MODELS, cases

from alignlearn import LyapunovManifold
from alignlearn.models import GaussianModel

NAMES = ["length", "width", "height"]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def rows():
    return np.random.default_rng(0).standard_normal((30, 3)) * [2.0, 1.0, 0.1]


def manifold(make_model=GaussianModel):
    return LyapunovManifold(model=make_model(), n_steps=2, n_paths=1, n_reference=9, random_state=0)


def frame(library):
    """Rows as a frame of an optional library."""
    return lambda X: pytest.importorskip(library).DataFrame(dict(zip(NAMES, X.T, strict=True)))


def with_gradient(X):
    return torch.tensor(X, requires_grad=True)


# Container and the precision that is left in it.
CONTAINERS = {
    "list": (lambda X: X.tolist(), 1e-12),
    "pandas": (frame("pandas"), 1e-12),
    "polars": (frame("polars"), 1e-12),
    "tensor": (torch.tensor, 1e-12),
    "tensor that requires grad": (with_gradient, 1e-12),
    "result with a graph": (lambda X: with_gradient(X) * 1.0, 1e-12),
    "float32 tensor": (lambda X: torch.tensor(X).float(), 1e-4),
    "float16 tensor": (lambda X: torch.tensor(X).half(), 0.05),
    "bfloat16 tensor": (lambda X: torch.tensor(X).bfloat16(), 0.2),
}
SPARSE = {
    "array": sparse.csr_array,
    "matrix": sparse.csr_matrix,
    "COO": sparse.coo_array,
    "tensor": lambda X: torch.tensor(X).to_sparse(),
}
QUESTIONS = ["lyapunov_exponents", "tangent_space", "dimension", "score_samples"]


@pytest.fixture(scope="module", params=list(MODELS.values()), ids=list(MODELS))
def make_model(request):
    return request.param


@pytest.mark.parametrize("container, precision", **cases(CONTAINERS))
def test_every_container_gives_the_answers_of_its_array(container, precision):
    X, fitted = rows(), manifold().fit(rows())
    found = manifold().fit(container(X))
    np.testing.assert_allclose(found.exponents_, fitted.exponents_, atol=precision)
    for question in QUESTIONS:
        expected = getattr(found, question)(np.asarray(X))
        actual = getattr(found, question)(container(X))
        assert isinstance(actual, np.ndarray)
        np.testing.assert_allclose(np.abs(actual), np.abs(expected), atol=30 * precision)


@pytest.mark.parametrize("container, precision", **cases(CONTAINERS))
def test_models_read_every_container(make_model, container, precision):
    model = make_model().fit(container(rows()))
    assert np.isfinite(model.score_samples(container(rows()[:5]))).all()
    assert model.n_features_in_ == 3


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_column_names_are_kept_and_checked(library):
    data = frame(library)(rows())
    if not hasattr(StandardScaler().fit(data), "feature_names_in_"):
        pytest.skip("this scikit-learn does not read the names of this frame")
    m = manifold().fit(data)
    assert m.feature_names_in_.tolist() == NAMES
    for question in QUESTIONS:
        getattr(m, question)(data)  # no warning of names that the model inside does not know
        with pytest.raises(ValueError, match="feature names should match"):
            getattr(m, question)(data[NAMES[::-1]])


@pytest.mark.parametrize("to_sparse", **cases(SPARSE))
@pytest.mark.parametrize("make", [manifold, *MODELS.values()], ids=["LyapunovManifold", *MODELS])
def test_sparse_input_is_refused_and_told_to_be_dense(make, to_sparse):
    with pytest.raises(TypeError, match="(?i)sparse.*dense"):
        make().fit(to_sparse(rows()))
    with pytest.raises(TypeError, match="(?i)sparse.*dense"):
        make().fit(rows()).score_samples(to_sparse(rows()))


@pytest.mark.skipif(not hasattr(LyapunovManifold, "transform"), reason="no transformer yet")
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_transform_gives_the_frame_that_was_asked_for(library):
    frames = pytest.importorskip(library)
    m = manifold().set_params(n_components=2).set_output(transform=library)
    X = StandardScaler().set_output(transform=library).fit_transform(frame(library)(rows()))
    for out in (m.fit_transform(X), m.transform(X)):
        assert isinstance(out, frames.DataFrame)
        assert list(out.columns) == list(m.get_feature_names_out())
        assert out.shape == (30, 2)
    m.set_output(transform="default")
    assert isinstance(m.transform(X), np.ndarray)
