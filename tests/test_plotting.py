"""The pictures, by what is in them."""

import inspect
import warnings

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import Isomap

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion, KernelDiffusion
from alignlearn.training import TrainingHistory

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402

from alignlearn import plotting  # noqa: E402
from alignlearn.plotting import (  # noqa: E402
    DimensionDisplay,
    EmbeddingDisplay,
    ImageGridDisplay,
    ImageMovesDisplay,
    MarginDisplay,
    ScaleDisplay,
    SpectrumDisplay,
    TangentDisplay,
    TrainingDisplay,
)
from alignlearn.plotting.canvas import COLORS  # noqa: E402
from alignlearn.plotting.tangents import (  # noqa: E402
    spacing,
    spread_indices,
    tangent_discs,
    tangent_segments,
)

# The fits are small; what they warn of is another file's matter.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
rng = np.random.default_rng(0)


def exponents(n, k):
    return -np.sort(rng.uniform(0, 1, (n, k)), axis=1)


def points(n, D):
    return rng.standard_normal((n, D)) * np.arange(D, 0, -1)


def frames(n, D, d):
    return np.linalg.qr(rng.standard_normal((n, D, d))).Q


def history(n, best=None):
    """n evaluations, ten steps apart."""
    train, held_out = np.sort(rng.uniform(0.3, 1.1, (2, n)))[:, ::-1]
    best = n - 1 if best is None else best
    steps = list(range(10, 10 * n + 1, 10))
    return TrainingHistory(steps, list(train), list(held_out), steps[best], held_out[best])


windows = np.array([[0.05, 0.2], [0.2, 0.8], [0.8, 3.2]])
labels10 = np.arange(500) % 10
CURVES = {  # what makes each display, small and crowded and degenerate
    "spectrum": lambda: SpectrumDisplay(exponents(30, 5), 2),
    "spectrum, k = 64": lambda: SpectrumDisplay(exponents(30, 64), 12, clear=False),
    "spectrum, all directions": lambda: SpectrumDisplay(-0.1 * rng.random((9, 4)), 4),
    "spectrum, one exponent of one point": lambda: SpectrumDisplay([[0.0]], 1),
    "spectrum, above 0 and below -1": lambda: SpectrumDisplay([[0.4, -1.7], [0.2, -2.0]], 1),
    "scale": lambda: ScaleDisplay(windows, rng.uniform(0, 5, (20, 3)), sample_dimension=2),
    "scale, one point and window": lambda: ScaleDisplay([[1, 2]], [[0.0]]),
    "scale, dimension above all": lambda: ScaleDisplay(
        windows, np.ones((4, 3)), sample_dimension=9
    ),
    "dimension": lambda: DimensionDisplay([1, 2, 2, 2, 4], sample_dimension=2),
    "dimension, all equal": lambda: DimensionDisplay([3, 3, 3], sample_dimension=3),
    "dimension, one point": lambda: DimensionDisplay([7]),
    "dimension, many": lambda: DimensionDisplay(rng.integers(9, 60, 99), sample_dimension=2),
    "margins": lambda: MarginDisplay(
        {name: rng.standard_normal(50) for name in ("data", "generated", "aligned", "normal")}
    ),
    "margins, one point": lambda: MarginDisplay({"data": [0.1]}),
    "training": lambda: TrainingDisplay([history(12)]),
    "training, four networks": lambda: TrainingDisplay([history(n, n // 2) for n in (5, 9, 7, 3)]),
    "training, one evaluation": lambda: TrainingDisplay([history(1)]),
    "training, steep": lambda: TrainingDisplay(
        [TrainingHistory([1, 2], [900.0, 0.2], [30.0, 0.1], 2, 0.1)]
    ),
    "embedding, strip": lambda: EmbeddingDisplay(points(30, 1), labels=list("abc") * 10),
    "embedding, strip of one": lambda: EmbeddingDisplay([[2.0]]),
    "embedding": lambda: EmbeddingDisplay(points(30, 2)),
    "embedding, classes": lambda: EmbeddingDisplay(points(500, 2), labels=labels10, name="digit"),
    "embedding, values": lambda: EmbeddingDisplay(points(9, 2), values=np.arange(9), name="age"),
    "embedding, 20 long names": lambda: EmbeddingDisplay(
        points(40, 2), labels=[f"a class with the long name {i % 20}" for i in range(40)]
    ),
    "embedding, crowded": lambda: EmbeddingDisplay(points(5000, 2), labels=np.tile(labels10, 10)),
    "embedding, one point": lambda: EmbeddingDisplay([[1.0, 2.0]], labels=["a"]),
    "tangents, segments": lambda: TangentDisplay(points(9, 2), frames(9, 2, 1)),
    "tangents, d = D = 2": lambda: TangentDisplay(
        points(9, 2), frames(9, 2, 2), sample=points(99, 2)
    ),
    "tangents, one point": lambda: TangentDisplay([[1.0, 2.0]], [[[1.0], [0.0]]]),
}
SOLID = {
    "embedding, space": lambda: EmbeddingDisplay(points(500, 3), labels=labels10),
    "embedding, space, values": lambda: EmbeddingDisplay(points(9, 3), values=np.arange(9.0)),
    "embedding, space, one point": lambda: EmbeddingDisplay([[1.0, 2.0, 3.0]]),
    "tangents, discs": lambda: TangentDisplay(
        points(9, 3), frames(9, 3, 2), sample=points(5000, 3)
    ),
    "tangents, segments in space": lambda: TangentDisplay(points(9, 3), frames(9, 3, 1)),
    "tangents, crosses": lambda: TangentDisplay(points(9, 3), frames(9, 3, 3)),
    "tangents, one disc": lambda: TangentDisplay([[1.0, 2.0, 3.0]], np.eye(3)[None, :, :2]),
}
every_curve = pytest.mark.parametrize("make", CURVES.values(), ids=CURVES)
every_display = pytest.mark.parametrize("make", (CURVES | SOLID).values(), ids=CURVES | SOLID)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def fitted(X):
    model = KernelDiffusion()
    return LyapunovManifold(model=model, n_reference=20, n_paths=4, random_state=0).fit(X)


@pytest.fixture(scope="module")
def manifold():
    """A plane in R^4."""
    X = np.random.default_rng(1).standard_normal((80, 4)) * [3, 2, 0.01, 0.01]
    return fitted(X)


@pytest.fixture(scope="module")
def plane():
    """A plane in R^3 and its points."""
    X = np.random.default_rng(2).standard_normal((80, 3)) * [3, 2, 0.001]
    return fitted(X), X


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines}


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def marks_in_pixels(ax):
    """Corners and centres of all that is drawn in flat axes."""
    for line in ax.lines:
        if len(line.get_xdata()):
            yield line.get_transform().transform(np.transpose(line.get_data()))
    for collection in ax.collections:
        if len(collection.get_offsets()) and np.any(collection.get_offsets()):
            yield ax.transData.transform(collection.get_offsets())
        else:
            for path in collection.get_paths():
                yield collection.get_transform().transform(path.vertices)
    for patch in ax.patches:
        yield patch.get_transform().transform(patch.get_path().vertices)


# ---- laws of every display


def test_every_display_is_in_a_table_or_of_images():
    names = {name for name, _ in inspect.getmembers(plotting, inspect.isclass)}
    assert names == set(plotting.__all__)
    made = {type(make()).__name__ for make in (CURVES | SOLID).values()}
    assert names - made == {"ImageMovesDisplay", "ImageGridDisplay"}


@every_display
def test_a_display_draws_quietly_and_leaves_the_settings_alone(make, caplog):
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of matplotlib's own dependencies
        display = make()
        assert not plt.get_fignums() and not hasattr(display, "ax_")
        assert display.plot() is display
        display.figure_.canvas.draw()
    assert dict(matplotlib.rcParams) == before
    assert not caplog.records
    assert plt.get_fignums() == [display.figure_.number]


@every_display
def test_a_display_draws_into_the_axes_handed_in(make):
    display = make()
    solid = getattr(display.plot().ax_, "name", "") == "3d"
    plt.close("all")
    figure, (other, ax) = plt.subplots(1, 2, subplot_kw={"projection": "3d" if solid else None})
    assert display.plot(ax=ax).ax_ is ax and display.figure_ is figure
    assert not (other.lines or other.collections or other.patches or other.get_xlabel())
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("make", SOLID.values(), ids=SOLID)
def test_flat_axes_are_refused_for_three_coordinates(make):
    with pytest.raises(ValueError, match="projection='3d'"):
        make().plot(ax=plt.figure().add_subplot())


def test_axes_in_space_are_refused_for_curves():
    with pytest.raises(ValueError, match="expected axes for 2 coordinates"):
        CURVES["spectrum"]().plot(ax=plt.figure().add_subplot(projection="3d"))


@every_curve
@pytest.mark.parametrize("laid_out", [True, False], ids=["own figure", "plain axes"])
def test_marks_lie_inside_the_axes_legends_outside_and_words_in_the_figure(make, laid_out):
    display = make().plot(ax=None if laid_out else plt.figure().add_subplot())
    figure, ax = display.figure_, display.ax_
    figure.canvas.draw()
    box = ax.get_window_extent()
    for corners in marks_in_pixels(ax):
        assert (corners >= np.array(box.p0) - 1).all() and (corners <= np.array(box.p1) + 1).all()
    if ax.get_legend() is not None:
        legend = ax.get_legend().get_window_extent()
        assert legend.y0 >= box.y1 - 1, "it hides something"
        assert legend.x1 <= figure.bbox.x1 + 1 and legend.y1 <= figure.bbox.y1 + 1
        assert len(set(legend_texts(ax))) == len(legend_texts(ax))
    assert ax.get_xlabel() and not ax.get_title()
    if laid_out:
        texts = [ax.xaxis.label, ax.yaxis.label, *ax.texts]
        for text in [text for text in texts if text.get_text()]:
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
            assert box.y0 >= 0 and box.y1 <= figure.bbox.y1
            assert text.get_fontsize() >= 8


@pytest.mark.parametrize("make", SOLID.values(), ids=SOLID)
def test_in_space_all_is_inside_limits_of_equal_units(make):
    display = make().plot()
    ax = display.ax_
    ax.figure.canvas.draw()
    limits = np.array([ax.get_xlim(), ax.get_ylim(), ax.get_zlim()])
    shown = getattr(display, "marks_", None)
    shown = display.coordinates if shown is None else shown.reshape(-1, 3)
    assert (shown >= limits[:, 0]).all() and (shown <= limits[:, 1]).all()
    lengths = np.diff(limits)[:, 0]
    np.testing.assert_allclose(ax._box_aspect / lengths, ax._box_aspect[0] / lengths[0])


REFUSED = {  # each a call and words of its message
    "one axis": (lambda: SpectrumDisplay(np.zeros(3), 1), r"shape \(n_points, k\)"),
    "no exponents": (lambda: SpectrumDisplay(np.zeros((0, 3)), 1), "not empty"),
    "d > k": (lambda: SpectrumDisplay(np.zeros((3, 2)), 3), "dimension from 1 to k"),
    "d = 0": (lambda: SpectrumDisplay(np.zeros((3, 2)), 0), "dimension from 1 to k"),
    "NaN exponent": (lambda: SpectrumDisplay([[np.nan]], 1), "finite exponents, got 1"),
    "windows of other number": (lambda: ScaleDisplay(windows, np.ones((4, 2))), r"shape \(2, 2\)"),
    "windows descending": (lambda: ScaleDisplay(windows[::-1], np.ones((4, 3))), "finest first"),
    "window from 0": (lambda: ScaleDisplay([[0, 1]], [[1.0]]), "positive noise levels"),
    "infinite window": (lambda: ScaleDisplay([[1, np.inf]], [[1.0]]), "finite windows"),
    "no points": (lambda: ScaleDisplay(windows, np.ones((0, 3))), "not empty"),
    "fractions": (lambda: DimensionDisplay([1.5]), "integers of 1 or more"),
    "dimension 0": (lambda: DimensionDisplay([0]), "integers of 1 or more"),
    "no dimensions": (lambda: DimensionDisplay([]), "not empty"),
    "no history": (lambda: TrainingDisplay([]), "at least one evaluation"),
    "empty history": (lambda: TrainingDisplay([TrainingHistory()]), "interrupted before"),
    "NaN loss": (lambda: TrainingDisplay([TrainingHistory([1], [np.nan], [1.0])]), "finite losses"),
    "losses missing": (lambda: TrainingDisplay([TrainingHistory([1, 2], [1.0], [1.0])]), "2 steps"),
    "four coordinates": (lambda: EmbeddingDisplay(points(3, 4)), "1 to 3 coordinates, got 4"),
    "one label short": (lambda: EmbeddingDisplay(points(3, 2), labels=[1, 2]), "each of 3 points"),
    "a value more": (lambda: EmbeddingDisplay(points(1, 2), values=[1, 2]), "each of 1 points"),
    "both": (lambda: EmbeddingDisplay(points(1, 2), values=[1], labels=[1]), "got both"),
    "21 classes": (lambda: EmbeddingDisplay(points(21, 2), labels=range(21)), "at most 20"),
    "NaN value": (lambda: EmbeddingDisplay(points(1, 2), values=[np.nan]), "finite values"),
    "NaN coordinate": (lambda: EmbeddingDisplay([[np.nan]]), "finite coordinates"),
    "an axis name short": (lambda: EmbeddingDisplay(points(1, 2), axis_names="a"), "2 axis names"),
    "R^4": (lambda: TangentDisplay(points(3, 4), frames(3, 4, 2)), "project"),
    "R^1": (lambda: TangentDisplay(points(3, 1), np.ones((3, 1, 1))), "2 or 3 coordinates"),
    "vectors of others": (lambda: TangentDisplay(points(3, 2), frames(2, 2, 1)), r"\(3, 2, 'd'\)"),
    "d = 4": (lambda: TangentDisplay(points(3, 3), np.ones((3, 3, 4))), "n_components=1 or 2"),
    "flat sample": (
        lambda: TangentDisplay(points(3, 3), frames(3, 3, 1), sample=points(3, 2)),
        "3 columns",
    ),
    "size 0": (lambda: TangentDisplay(points(3, 2), frames(3, 2, 1), size=0), "positive size"),
    "no tangents": (lambda: TangentDisplay(np.ones((0, 2)), np.ones((0, 2, 1))), "not empty"),
    "image of other size": (
        lambda: ImageMovesDisplay(np.zeros((2, 3)), np.zeros((4, 3, 2)), 1.0),
        "same size",
    ),
    "image NaN": (lambda: ImageMovesDisplay([[np.nan]], [[[1.0]]], 1.0), "finite image"),
    "a label short": (
        lambda: ImageMovesDisplay(np.eye(2), np.zeros((2, 2, 2)), 1.0, labels=["a"]),
        "each of 2 vectors",
    ),
    "flat rows": (lambda: ImageGridDisplay({"real": np.zeros((5, 6))}), r"shape \(n, h, w\)"),
    "no sets": (lambda: ImageGridDisplay({}), "at least one set"),
    "no columns": (lambda: ImageGridDisplay({"a": np.ones((1, 1, 1))}, n_columns=0), "n_columns"),
}


@pytest.mark.parametrize("make, words", REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_with_what_was_expected(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# Matrices of Machado, Oliveira & Fernandes (2009): how they see who lack red or green cones.
SIGHT = {
    "trichromat": np.eye(3),
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("sight", SIGHT.values(), ids=SIGHT)
def test_ten_classes_have_colours_that_every_eye_tells_apart(sight):
    """CIELAB distance; 2.3 is just noticeable."""
    rgb = np.array([to_rgb(color) for color in COLORS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(sight), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = seen @ np.transpose(to_xyz) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.c_[116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])]
    distance = np.linalg.norm(lab[:, None] - lab, axis=2)
    assert len(COLORS) == 10 and distance[~np.eye(10, dtype=bool)].min() > 17


# ---- spectrum, scale, dimension


def test_spectrum_shows_median_quartiles_gap_and_floor():
    display = SpectrumDisplay(exponents(30, 5), 2).plot()
    ax, lines = display.ax_, lines_of(display.ax_)
    np.testing.assert_allclose(lines["median"].get_ydata(), np.median(display.exponents, axis=0))
    np.testing.assert_array_equal(lines["median"].get_xdata(), [1, 2, 3, 4, 5])
    assert list(lines["gap behind dimension 2"].get_xdata()) == [2.5, 2.5]
    assert list(lines["floor: dies with the noise"].get_ydata()) == [-1, -1]
    band = ax.collections[0].get_paths()[0].vertices
    for quartile in np.quantile(display.exponents, [0.25, 0.75], axis=0):
        assert np.isclose(band[:, 1, None], quartile).any(axis=0).all()
    assert set(legend_texts(ax)) == {*lines, "middle half of 30 points"}


@pytest.mark.parametrize("dimension, clear", [(2, False), (3, True)], ids=["unclear", "d = k"])
def test_spectrum_claims_no_gap_where_none_is_clear(dimension, clear):
    ax = SpectrumDisplay(exponents(5, 3), dimension, clear=clear).plot().ax_
    line = lines_of(ax)[f"dimension {dimension}, no clear gap"]
    assert line.get_xdata()[0] == dimension + 0.5
    assert not any("gap behind" in text for text in legend_texts(ax))


def test_spectrum_of_an_estimator_is_that_of_its_reference_points(manifold):
    ax = plt.figure().add_subplot()
    display = SpectrumDisplay.from_estimator(manifold, ax=ax)
    assert display.ax_ is ax
    np.testing.assert_array_equal(display.exponents, manifold.reference_exponents_)
    assert display.dimension == manifold.dimension_
    assert display.clear == manifold.dimension_estimate_.clear
    fresh = SpectrumDisplay.from_estimator(manifold, np.zeros((3, 4)))
    assert fresh.exponents.shape == (3, 4)


def test_scale_shows_a_step_for_each_window():
    dimension = rng.uniform(0, 4, (7, 3))
    ax = ScaleDisplay(windows, dimension, sample_dimension=2).plot().ax_
    line = lines_of(ax)["median"]
    np.testing.assert_array_equal(line.get_xdata(), windows.ravel())
    np.testing.assert_allclose(line.get_ydata(), np.repeat(np.median(dimension, axis=0), 2))
    assert list(lines_of(ax)["dimension 2 of the sample"].get_ydata()) == [2, 2]
    assert ax.get_xscale() == "log" and "units of the data" in ax.get_xlabel()
    ax.figure.canvas.draw()
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    assert {"0.1", "0.2", "0.5", "1", "2"} <= set(ticks)


def test_scale_of_an_estimator_is_its_scale_spectrum(manifold):
    X = points(5, 4)
    found = manifold.scale_spectrum(X, 3)
    display = ScaleDisplay.from_estimator(manifold, X, n_scales=3)
    np.testing.assert_array_equal(display.windows, found.windows)
    np.testing.assert_array_equal(display.dimension, found.dimension)
    assert display.sample_dimension == manifold.dimension_


def test_histogram_shows_the_share_of_every_dimension():
    display = DimensionDisplay([2, 4, 2, 2, 5], sample_dimension=3).plot()
    bars = display.ax_.patches
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    np.testing.assert_allclose(centres, [2, 3, 4, 5])
    np.testing.assert_allclose([bar.get_height() for bar in bars], [0.6, 0, 0.2, 0.2])
    assert [text.get_text() for text in display.ax_.texts] == ["60%", "0%", "20%", "20%"]
    assert list(lines_of(display.ax_)["dimension 3 of the sample"].get_xdata()) == [3]


def test_histogram_of_an_estimator_is_its_pointwise_dimension(manifold):
    display = DimensionDisplay.from_estimator(manifold)
    assert len(display.dimensions) == 20 and display.sample_dimension == manifold.dimension_
    X = points(7, 4)
    fresh = DimensionDisplay.from_estimator(manifold, X)
    np.testing.assert_array_equal(fresh.dimensions, manifold.dimension(X))


# ---- tangent spaces


@pytest.mark.parametrize("D", [2, 3])
def test_discs_are_circles_in_the_tangent_planes(D):
    x, V = points(6, D), frames(6, D, 2)
    arms = tangent_discs(x, V, 0.5) - x[:, None]
    np.testing.assert_allclose(np.linalg.norm(arms, axis=2), 0.25)
    np.testing.assert_allclose(arms @ V @ np.swapaxes(V, 1, 2), arms, atol=1e-12)
    np.testing.assert_allclose(arms.mean(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("D, d", [(2, 1), (3, 1), (3, 3)])
def test_segments_have_their_length_along_every_vector(D, d):
    x, V = points(6, D), frames(6, D, d)
    ends = tangent_segments(x, V, 0.5).reshape(6, d, 2, D)
    np.testing.assert_allclose(ends.mean(axis=2), np.repeat(x[:, None], d, axis=1))
    np.testing.assert_allclose(ends[:, :, 1] - ends[:, :, 0], 0.5 * np.swapaxes(V, 1, 2))


def test_spread_points_cover_as_well_as_the_slow_greedy_choice():
    X = points(60, 3)
    taken = spread_indices(X, 9)
    for i in range(1, 9):
        to_taken = np.linalg.norm(X[:, None] - X[taken[:i]], axis=2).min(axis=1)
        assert to_taken[taken[i]] == to_taken.max()


def test_spread_points_are_different_ones():
    X = np.repeat(points(3, 2), 5, axis=0)
    assert len(np.unique(X[spread_indices(X, 10)], axis=0)) == 3
    assert list(spread_indices(np.ones((4, 2)), 3)) == [0]


def test_spacing_is_the_typical_distance_between_neighbours():
    assert spacing(np.array([[0.0], [1.0], [3.0], [3.0], [4.5]])) == 1.0
    assert spacing(np.zeros((1, 2))) == spacing(np.zeros((4, 2))) == 1.0


@pytest.mark.parametrize("D, d", [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
def test_tangents_show_the_marks_and_the_sample(D, d):
    x, V, sample = points(8, D), frames(8, D, d), points(40, D)
    display = TangentDisplay(x, V, sample=sample, size=0.7).plot()
    dots, marks = display.ax_.collections
    assert legend_texts(display.ax_) == ["40 points", "tangent spaces"]
    corners = (tangent_discs if d == 2 else tangent_segments)(x, V, 0.7)
    np.testing.assert_array_equal(display.marks_, corners)
    if D == 2:
        np.testing.assert_array_equal(dots.get_offsets(), sample)
        shown = [path.vertices[: corners.shape[1]] for path in marks.get_paths()]
        np.testing.assert_allclose(shown, corners)
        assert display.ax_.get_aspect() == 1
    else:
        np.testing.assert_array_equal(np.transpose(dots._offsets3d), sample)


def test_tangents_of_an_estimator_lie_in_the_plane_of_the_data(plane):
    manifold, X = plane
    display = TangentDisplay.from_estimator(manifold, X, n_points=12, n_components=2)
    assert display.points.shape == (12, 3) and display.vectors.shape == (12, 3, 2)
    np.testing.assert_array_equal(display.sample, X)
    np.testing.assert_array_equal(display.points, X[spread_indices(X, 12)])
    assert np.abs(display.marks_[:, :, 2]).max() < 0.05 * display.size
    assert display.ax_.get_zlabel() == "feature 3"


def test_tangents_take_names_from_a_data_frame(plane):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(plane[1][:, :2], columns=["height", "weight"])
    manifold = fitted(X)
    ax = TangentDisplay.from_estimator(manifold, X, n_points=3).ax_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("height", "weight")


def test_many_features_are_projected_on_three_principal_axes(manifold):
    X = points(50, 4) * [3, 2, 1, 1]
    display = TangentDisplay.from_estimator(manifold, X, n_points=5, n_components=2)
    pca = PCA(3).fit(X)
    np.testing.assert_allclose(np.abs(display.sample), np.abs(pca.transform(X)), atol=1e-9)
    lengths = np.linalg.norm(display.vectors, axis=1)
    assert (lengths <= 1 + 1e-12).all() and lengths.min() > 0
    expected = np.abs(pca.components_ @ manifold.tangent_space(X, 2)[spread_indices(X, 5)])
    np.testing.assert_allclose(np.abs(display.vectors), expected, atol=1e-6)
    assert display.ax_.get_xlabel() == f"PC 1 ({pca.explained_variance_ratio_[0]:.0%})"
    with pytest.raises(ValueError, match="at least 4 rows"):
        TangentDisplay.from_estimator(manifold, X[:3])


def test_discs_that_face_the_light_are_lighter():
    edge_on = np.linalg.qr(np.array([[0.3, -0.5, 0.8], [1.0, 0, 0]]).T).Q
    facing = np.linalg.svd(np.array([[0.3, -0.5, 0.8]])).Vh[1:].T
    display = TangentDisplay(np.eye(3)[:2], np.stack([edge_on, facing])).plot()
    display.figure_.canvas.draw()
    dark, light = display.ax_.collections[0]._facecolor3d[:, :3].sum(axis=1)
    assert light > dark + 0.5


# ---- embedding


@pytest.mark.parametrize("k", [1, 2, 3])
def test_an_embedding_shows_every_point_under_its_class(k):
    Y, labels = points(60, k), np.repeat([30, 4, 100], 20)
    display = EmbeddingDisplay(Y, labels=labels, name="kind").plot()
    ax = display.ax_
    assert len(ax.collections) == 3
    for label, dots in zip([4, 30, 100], ax.collections, strict=True):
        assert dots.get_label() == str(label)
        shown = np.transpose(dots._offsets3d) if k == 3 else dots.get_offsets()[:, :k]
        np.testing.assert_array_equal(shown, Y[labels == label])
    if k == 1:
        assert [text.get_text() for text in ax.get_yticklabels()] == ["4", "30", "100"]
        rows = np.round([dots.get_offsets()[:, 1] for dots in ax.collections])
        np.testing.assert_array_equal(rows, np.repeat([[0], [1], [2]], 20, axis=1))
    else:
        assert legend_texts(ax) == ["4", "30", "100"]
        assert ax.get_legend().get_title().get_text() == "kind"


@pytest.mark.parametrize("missing", [None, np.nan])
def test_points_of_missing_class_are_shown_as_one(missing):
    labels = [1, missing, 1, missing]
    ax = EmbeddingDisplay(points(4, 2), labels=labels).plot().ax_
    assert [len(dots.get_offsets()) for dots in ax.collections] == [2, 2]
    assert legend_texts(ax)[1] == str(missing)


def test_twenty_classes_have_twenty_looks():
    ax = EmbeddingDisplay(points(20, 2), labels=range(20)).plot().ax_
    looks = {
        (tuple(dots.get_facecolor()[0]), dots.get_paths()[0].vertices.tobytes())
        for dots in ax.collections
    }
    assert len(looks) == 20


def test_the_markers_alone_tell_ten_classes_apart_in_grey():
    ax = EmbeddingDisplay(points(10, 2), labels=range(10)).plot().ax_
    assert len({dots.get_paths()[0].vertices.tobytes() for dots in ax.collections}) == 10


@pytest.mark.parametrize("k", [1, 2, 3])
def test_values_have_a_colour_bar(k):
    Y, values = points(30, k), rng.uniform(-3, 7, 30)
    display = EmbeddingDisplay(Y, values=values, name="angle in rad").plot()
    np.testing.assert_array_equal(display.ax_.collections[0].get_array(), values)
    bar = display.colorbar_
    np.testing.assert_allclose((bar.vmin, bar.vmax), (values.min(), values.max()))
    assert bar.ax.get_ylabel() == "angle in rad" and display.ax_.get_legend() is None


def test_an_embedding_without_colours_has_neither_legend_nor_bar():
    display = EmbeddingDisplay(points(9, 2)).plot()
    assert display.colorbar_ is None and display.ax_.get_legend() is None
    assert display.ax_.get_aspect() == 1


KINDS = {
    "words": (list("abcab"), True),
    "few integers": ([1, 2, 3, 1, 2], True),
    "whole floats": ([1.0, 2.0, 3.0, 1.0, 2.0], True),
    "truth": ([True, False, True, True, False], True),
    "fractions": ([0.5, 1.0, 2.0, 3.0, 1.0], False),
}


@pytest.mark.parametrize("y, classes", KINDS.values(), ids=KINDS)
def test_words_and_few_integers_are_classes_and_fractions_values(y, classes):
    isomap = Isomap(n_neighbors=4).fit(points(5, 3))
    display = EmbeddingDisplay.from_estimator(isomap, y=y)
    assert (display.labels is not None) == classes
    assert (display.values is not None) != classes


def test_many_integers_are_values():
    isomap = Isomap(n_neighbors=29).fit(points(30, 3))
    assert EmbeddingDisplay.from_estimator(isomap, y=range(30)).values is not None


def test_an_estimator_shows_its_embedding_or_that_of_new_points():
    X = points(30, 5)
    isomap = Isomap(n_neighbors=8, n_components=5).fit(X)
    display = EmbeddingDisplay.from_estimator(isomap)
    np.testing.assert_array_equal(display.coordinates, isomap.embedding_[:, :2])
    assert display.ax_.get_xlabel() == "coordinate 1 of 5"
    fresh = EmbeddingDisplay.from_estimator(isomap, X[:7], coordinates=(5, 1, 3))
    np.testing.assert_array_equal(fresh.coordinates, isomap.transform(X[:7])[:, [4, 0, 2]])
    assert fresh.ax_.get_zlabel() == "coordinate 3 of 5"
    for wrong in [(0, 1), (1, 6)]:
        with pytest.raises(ValueError, match="from 1 to 5"):
            EmbeddingDisplay.from_estimator(isomap, coordinates=wrong)


def test_a_manifold_shows_its_own_embedding():
    X = points(40, 3)
    manifold = LyapunovManifold(model=KernelDiffusion(), n_components=2, random_state=0).fit(X)
    display = EmbeddingDisplay.from_estimator(manifold, y=X[:, 0])
    np.testing.assert_array_equal(display.coordinates, manifold.embedding_)


def test_the_name_of_a_column_names_the_colours():
    pd = pytest.importorskip("pandas")
    isomap = Isomap(n_neighbors=4).fit(points(5, 3))
    display = EmbeddingDisplay.from_estimator(isomap, y=pd.Series(list("abcab"), name="species"))
    assert display.name == "species"


# ---- training


def test_training_shows_both_losses_and_the_step_kept_of_every_network():
    histories = [history(8, 3), history(5)]
    ax = TrainingDisplay([histories[0], TrainingHistory(), histories[1]]).plot().ax_
    drawn = [line for line in ax.lines if len(line.get_xdata())]
    for i, h in enumerate(histories):
        held_out, train, kept = drawn[3 * i : 3 * i + 3]
        np.testing.assert_array_equal(held_out.get_data(), [h.steps, h.held_out_loss])
        np.testing.assert_array_equal(train.get_data(), [h.steps, h.train_loss])
        assert (kept.get_xdata()[0], kept.get_ydata()[0]) == (h.best_step, h.best_loss)
        assert held_out.get_label() == f"network {i + 1}, held out"
        assert held_out.get_color() == train.get_color() == kept.get_markeredgecolor()
        assert held_out.get_linestyle() != train.get_linestyle()
    assert list(lines_of(ax)["no structure found"].get_ydata()) == [1, 1]
    assert {"training rows", "weights kept"} < set(legend_texts(ax))


def test_training_of_an_estimator_is_that_of_its_model():
    X = points(40, 3)
    model = Diffusion(max_iter=8, width=16, n_blocks=1, random_state=0)
    fitted = model.fit(X)
    assert TrainingDisplay.from_estimator(fitted).histories == fitted.histories_
    manifold = LyapunovManifold(model=model, n_reference=5, n_paths=1, random_state=0)
    display = TrainingDisplay.from_estimator(manifold.fit(X))
    assert display.histories == manifold.model_.histories_


def test_a_model_without_training_says_so(manifold):
    with pytest.raises(ValueError, match="KernelDiffusion has no training curve"):
        TrainingDisplay.from_estimator(manifold)


# ---- images


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
    with pytest.raises(ValueError, match="counted from 1"):
        ImageMovesDisplay.from_estimator(manifold, x, (2, 2), (0, 4), 2.0)
    with pytest.raises(ValueError, match="4 pixels"):
        ImageMovesDisplay.from_estimator(manifold, x, (2, 3), (1, 4), 2.0)


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
    spectrum = CURVES["spectrum"]().plot(ax=plt.figure().subfigures(1, 2)[0].subplots())
    assert spectrum.figure_ is spectrum.ax_.figure
