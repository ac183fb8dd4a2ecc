"""The report: its numbers are those of the estimator, and its text can be read."""

import dataclasses
import re

import numpy as np
import pytest

from alignlearn import LyapunovManifold
from alignlearn.datasets import make_sphere
from alignlearn.models import Diffusion, KernelDiffusion
from alignlearn.report import GeometryReport, local_pca_dimension, scale_dimensions

rng = np.random.default_rng(0)
FEW = {"n_reference": 30, "n_paths": 2, "random_state": 0}


@pytest.fixture(scope="module")
def sphere():
    X = make_sphere(300, 2, random_state=0).points
    y = np.where(X[:, 0] > 0, "east", "west")
    manifold = LyapunovManifold(model=KernelDiffusion(), **FEW).fit(X)
    return manifold, X, y


@pytest.fixture(scope="module")
def report(sphere):
    manifold, X, y = sphere
    return GeometryReport.from_estimator(manifold, X, y, seconds=12.3)


def test_the_numbers_are_those_of_the_estimator(sphere, report):
    manifold, X, y = sphere
    assert (report.n_samples, report.n_features, report.n_points) == (300, 3, 30)
    assert report.estimate == manifold.dimension_estimate_
    np.testing.assert_array_equal(
        report.exponents[1], np.median(manifold.reference_exponents_, axis=0)
    )
    pointwise = manifold.dimension(X[manifold.reference_indices_])
    for entry in report.classes:
        mine = pointwise[y[manifold.reference_indices_] == entry.label]
        assert entry.n_points == len(mine)
        assert entry.mode == np.bincount(mine).argmax()
        np.testing.assert_array_equal(entry.quartiles, np.quantile(mine, [0.25, 0.5, 0.75]))
    assert [entry.label for entry in report.classes] == ["east", "west"]


def test_the_text_tells_dimension_exponents_classes_baseline_and_time(report):
    text = str(report)
    assert f"Intrinsic dimension: {report.estimate.dimension}" in text
    for exponent in report.exponents[1]:
        assert f"{round(exponent, 2) + 0.0:.2f}" in text
    assert re.search(r"class +east +west", text)
    assert "local PCA" in text and "12 s" in text
    assert "loss" not in text  # a kernel model is not trained


def test_the_text_is_short(report):
    ten = dataclasses.replace(report, classes=report.classes * 5)
    for text in (str(report), str(ten)):
        assert len(text.splitlines()) <= 30
        assert max(map(len, text.splitlines())) <= 90
    many = str(dataclasses.replace(report, classes=report.classes * 50))
    assert "80 more classes" in many and len(many.splitlines()) <= 34


def test_an_unresolved_dimension_is_called_that(report):
    unresolved = report.estimate._replace(resolved=False, dimension=3)
    text = str(dataclasses.replace(report, estimate=unresolved))
    assert "not resolved" in text and "Train longer" in text


def test_points_that_disagree_are_reported(report):
    split = report.estimate._replace(confidence=0.2, resolved=True)
    assert "do not agree" in str(dataclasses.replace(report, estimate=split))


def test_a_spectrum_without_a_clear_gap_is_reported(report):
    for clear in (True, False):
        estimate = report.estimate._replace(resolved=True, clear=clear)
        text = str(dataclasses.replace(report, estimate=estimate))
        assert ("No gap between the exponents is clear" in text) is not clear


def test_a_trained_model_tells_its_loss_and_steps():
    X = rng.standard_normal((60, 2)) @ np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    manifold = LyapunovManifold(model=Diffusion(width=16, max_iter=5), **FEW).fit(X)
    report = GeometryReport.from_estimator(manifold, X)
    assert report.loss == manifold.model_.loss_
    assert f"held-out loss {report.loss:.3f}" in str(report)
    assert "5 of at most 5 steps" in " ".join(str(report).split())
    assert report.classes == () and "class" not in str(report)


def test_the_report_turns_with_the_units(sphere, report):
    """Lengths grow with the data, counts stay."""
    X = sphere[1]
    large = LyapunovManifold(model=KernelDiffusion(), **FEW).fit(1024 * X)
    a, b = report, GeometryReport.from_estimator(large, 1024 * X)
    assert b.estimate.dimension == a.estimate.dimension
    np.testing.assert_allclose(b.window, 1024 * np.array(a.window), rtol=1e-6)
    np.testing.assert_allclose(b.thickness, 1024 * a.thickness, rtol=1e-3)
    for mine, other in zip(a.scales, b.scales, strict=True):
        np.testing.assert_allclose(other.dimension, mine.dimension, rtol=1e-3)


def test_scales_cover_the_noise_range_and_count_the_surviving_directions(sphere):
    manifold, X, _ = sphere
    scales = scale_dimensions(manifold, X, n_scales=2, n_points=5)
    unit = np.exp(manifold.model_.scaling_.log_unit)
    assert scales[0].window[0] == pytest.approx(manifold.model_.window_[0] * unit)
    assert scales[0].window[1] == pytest.approx(scales[1].window[0])
    assert scales[1].window[1] == pytest.approx(manifold.model_.noise_range_[1] * unit)
    assert all(0 <= scale.dimension <= 3 for scale in scales)
    assert manifold.window is None  # the manifold itself is left as it was


def test_wrong_shapes_are_refused(sphere):
    manifold, X, y = sphere
    with pytest.raises(ValueError, match="training data"):
        GeometryReport.from_estimator(manifold, X[:10])
    with pytest.raises(ValueError, match="training data"):
        GeometryReport.from_estimator(manifold, X[:, :2])
    with pytest.raises(ValueError, match="class for each"):
        GeometryReport.from_estimator(manifold, X, y[:-1])


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_local_pca_finds_the_dimension_of_a_plane_by_every_rule(d, scale):
    frame = np.linalg.qr(rng.standard_normal((6, d))).Q
    X = scale * rng.uniform(size=(400, d)) @ frame.T
    pca = local_pca_dimension(X, n_points=50)
    assert pca.n_neighbors == (20, 50, 100)
    for rule in (pca.variance, pca.threshold, pca.ratio):
        np.testing.assert_array_equal(rule, d)


def test_local_pca_equals_sklearn_point_by_point():
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    X = rng.standard_normal((50, 4)) * [4, 2, 1, 0.5]
    indices = NearestNeighbors(n_neighbors=20).fit(X).kneighbors(X, return_distance=False)
    shares = [np.cumsum(PCA().fit(X[i]).explained_variance_ratio_) for i in indices]
    expected = np.median([1 + np.sum(share < 0.95) for share in shares])
    assert local_pca_dimension(X, (20,), n_points=50).variance == [expected]


def test_local_pca_of_few_or_equal_points_is_finite():
    assert local_pca_dimension(rng.standard_normal((3, 2))).n_neighbors == (2,)
    assert np.isfinite(local_pca_dimension(np.r_[np.zeros((30, 2)), [[1, 1]]]).variance).all()
