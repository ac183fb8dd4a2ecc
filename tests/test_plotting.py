"""The pictures, by what is in them."""

import numpy as np
import pytest

from alignlearn import LyapunovManifold
from alignlearn.models import KernelDiffusion

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from matplotlib import pyplot as plt  # noqa: E402

from alignlearn.plotting import ImageGridDisplay, ImageMovesDisplay, SpectrumDisplay  # noqa: E402

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def manifold():
    X = rng.standard_normal((80, 4)) * [3, 2, 0.01, 0.01]
    return LyapunovManifold(model=KernelDiffusion(), n_reference=20, random_state=0).fit(X)


def test_spectrum_shows_median_quartiles_gap_and_floor():
    exponents = np.sort(rng.uniform(-1, 0, (30, 5)))[:, ::-1]
    display = SpectrumDisplay(exponents, 2).plot()
    ax = display.ax_
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["median"].get_ydata(), np.median(exponents, axis=0))
    np.testing.assert_array_equal(lines["median"].get_xdata(), [1, 2, 3, 4, 5])
    assert list(lines["dimension 2"].get_xdata()) == [2.5, 2.5]
    assert list(lines["floor: dies with the noise"].get_ydata()) == [-1, -1]
    band = ax.collections[0].get_paths()[0].vertices
    for quartile in np.quantile(exponents, [0.25, 0.75], axis=0):
        assert np.isclose(band[:, 1, None], quartile).any(axis=0).all()
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= set(lines)
    low, high = ax.get_ylim()
    assert low < -1 and high > exponents[:, 0].mean()


def test_a_full_dimensional_spectrum_has_no_gap_line():
    display = SpectrumDisplay(np.full((3, 2), -0.01), 2).plot()
    assert not any("gap" in str(line.get_label()) for line in display.ax_.lines)


def test_spectrum_draws_into_the_axes_handed_in(manifold):
    figure, axes = plt.subplots(1, 2)
    display = SpectrumDisplay.from_estimator(manifold, ax=axes[1])
    assert display.ax_ is axes[1] and display.figure_ is figure
    assert not axes[0].lines
    assert display.exponents is manifold.reference_exponents_
    assert display.dimension == manifold.dimension_
    fresh = SpectrumDisplay.from_estimator(manifold, np.zeros((3, 4)))
    assert fresh.exponents.shape == (3, 4)


@pytest.mark.parametrize("shape, dimension", [((3,), 1), ((3, 2), 3), ((3, 2), 0)])
def test_a_spectrum_of_wrong_shape_is_refused(shape, dimension):
    with pytest.raises(ValueError, match=r"shape \(n_points, k\)"):
        SpectrumDisplay(np.zeros(shape), dimension)


def test_moves_show_image_vectors_and_both_steps():
    image, vectors = rng.uniform(0, 16, (2, 3)), rng.standard_normal((4, 2, 3))
    display = ImageMovesDisplay(image, vectors, 5.0, value_range=(0, 16)).plot()
    axes = display.axes_
    assert axes.shape == (3, 5)
    np.testing.assert_array_equal(axes[0, 0].images[0].get_array(), image)
    for j in range(4):
        shown = [axes[row, j + 1].images[0] for row in range(3)]
        np.testing.assert_array_equal(shown[0].get_array(), vectors[j])
        np.testing.assert_allclose(shown[1].get_array(), image + 5 * vectors[j])
        np.testing.assert_allclose(shown[2].get_array(), image - 5 * vectors[j])
        assert [s.get_clim() for s in shown[1:]] == [(0, 16), (0, 16)]
        assert shown[0].get_clim()[0] == -shown[0].get_clim()[1]
        assert axes[0, j + 1].get_title() == str(j + 1)


def test_moves_of_an_estimator_follow_its_lyapunov_vectors(manifold):
    x = np.arange(4.0)
    display = ImageMovesDisplay.from_estimator(manifold, x, (2, 2), (1, 4), 2.0)
    frame = manifold.tangent_space(x[None], n_components=4)[0]
    np.testing.assert_allclose(display.vectors.reshape(2, 4), frame[:, [0, 3]].T)
    lengths = np.linalg.norm(display.moved_ - display.image, axis=(2, 3))
    np.testing.assert_allclose(lengths, 2.0, rtol=1e-5)
    assert [ax.get_title() for ax in display.axes_[0]] == ["the image", "vector 1", "vector 4"]


def test_moves_of_wrong_size_are_refused():
    with pytest.raises(ValueError, match="same size"):
        ImageMovesDisplay(np.zeros((2, 3)), np.zeros((4, 3, 2)), 1.0)


def test_the_grid_shows_every_image_once():
    real, generated = rng.uniform(size=(5, 2, 3)), rng.uniform(size=(4, 2, 3))
    display = ImageGridDisplay({"real": real, "generated": generated}, n_columns=3).plot()
    assert [ax.get_title() for ax in display.axes_] == ["real", "generated"]
    mosaic = display.mosaics_["real"]
    assert mosaic.shape == (2 * 3 - 1, 3 * 4 - 1)
    np.testing.assert_array_equal(mosaic[0:2, 4:7], real[1])
    np.testing.assert_array_equal(mosaic[3:5, 0:3], real[3])
    assert np.isfinite(mosaic).sum() == real.size
    shown = display.axes_[1].images[0]
    np.testing.assert_array_equal(shown.get_array().filled(np.nan), display.mosaics_["generated"])
    assert shown.get_clim() == (real.min(), real.max())


def test_displays_draw_into_a_subfigure():
    left, right = plt.figure().subfigures(1, 2)
    assert ImageGridDisplay({"a": np.zeros((1, 2, 2))}).plot(figure=left).figure_ is left
    moves = ImageMovesDisplay(np.eye(2), np.zeros((1, 2, 2)), 1.0).plot(figure=right)
    assert moves.axes_[0, 0].figure is right


def test_a_grid_of_flat_rows_is_refused():
    with pytest.raises(ValueError, match=r"images \(n, h, w\)"):
        ImageGridDisplay({"real": np.zeros((5, 6))})
