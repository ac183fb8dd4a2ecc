"""Coordinates of flat and round manifolds from their true tangent spaces; graphs without cuts."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.manifold import trustworthiness

from alignlearn import geodesics
from alignlearn.alignment import _most_isometric
from alignlearn.datasets import (
    make_affine_subspace,
    make_flat_torus,
    make_s_curve,
    make_severed_sphere,
    make_sphere,
    make_swiss_roll,
    make_torus,
)
from alignlearn.embedding import align_tangent_spaces, default_n_neighbors
from alignlearn.tangent_graph import nearest


def level(a, b):
    """A density without valleys."""
    return np.zeros(len(a))


def wall(a, b):
    """A density that is all but zero on the plane where the first coordinate is."""
    return np.where(a[:, 0] * b[:, 0] < 0, -100.0, 0.0)


def chart_of(sample, n_components=None, n_neighbors=None, valley=level):
    d = sample.dimension
    return align_tangent_spaces(
        sample.clean,
        sample.tangents,
        n_components or d,
        n_neighbors or default_n_neighbors(d),
        valley,
        np.ones(len(sample.clean)),
    )


def unrolled(sample):
    """Arc length and width of the Swiss roll."""
    t, y = sample.parameters.T
    return np.stack([0.5 * (t * np.sqrt(1 + t * t) + np.arcsinh(t)), y], axis=1)


DEVELOPABLE = {
    "Swiss roll": (lambda **o: make_swiss_roll(1000, random_state=0, **o), unrolled),
    "S-curve": (lambda **o: make_s_curve(600, random_state=0, **o), lambda s: s.parameters),
    "plane": (lambda **o: make_affine_subspace(300, 2, 5, random_state=0, **o), None),
}
developable = pytest.mark.parametrize(
    "make, flat",
    [(make, flat or (lambda s: s.parameters)) for make, flat in DEVELOPABLE.values()],
    ids=DEVELOPABLE,
)


def distances(y):
    return np.linalg.norm(y[:, None] - y[None], axis=2)


@developable
def test_developable_surface_is_unrolled_to_scale(make, flat):
    """Coordinates are the flat ones up to a rigid motion: all distances are equal."""
    sample = make()
    y, u = chart_of(sample).coordinates, flat(sample)
    assert np.abs(distances(y) - distances(u)).max() < 0.02 * distances(u).max()


@pytest.mark.parametrize("seed", range(3))
def test_width_of_a_long_strip_is_found_under_noise(seed):
    """There a bend of the length costs less than the width, and would be taken for it."""
    draw = np.random.RandomState(seed)
    u = draw.uniform(size=(500, 2)) * [12, 1]
    tangents = np.linalg.qr(np.eye(3)[:, :2] + 0.15 * draw.normal(size=(500, 3, 2)))[0]
    strip = np.pad(u, ((0, 0), (0, 1)))
    y = align_tangent_spaces(strip, tangents, 2, 14, level, np.ones(500)).coordinates
    assert LinearRegression().fit(y, u[:, 1]).score(y, u[:, 1]) > 0.8


@developable
def test_new_points_get_the_coordinates_of_their_place(make, flat):
    chart, fresh = chart_of(make()), make(sample_state=1)
    line = LinearRegression().fit(chart.coordinates, flat(make()))
    assert line.score(chart.transform(fresh.clean, level), flat(fresh)) > 0.9999


@developable
def test_inverse_transform_leads_back(make, flat):
    """To second order: well below the distance between neighbours."""
    sample = make()
    chart = chart_of(sample)
    back = chart.inverse_transform(chart.transform(sample.clean, level))
    spacing = np.median(np.sort(distances(sample.clean), axis=1)[:, 1])
    assert np.median(np.linalg.norm(back - sample.clean, axis=1)) < 0.3 * spacing


def test_three_coordinates_of_a_sphere_are_the_sphere():
    sample = make_sphere(600, 2, random_state=0)
    y = chart_of(sample, n_components=3).coordinates
    assert np.abs(distances(y) - distances(sample.clean)).max() < 0.15
    np.testing.assert_allclose(np.linalg.norm(y - y.mean(0), axis=1), 1, atol=0.1)


def test_four_coordinates_of_a_flat_torus_are_the_torus():
    sample = make_flat_torus(1500, 2, random_state=0)
    y = chart_of(sample, n_components=4).coordinates
    size = np.sqrt(np.mean(sample.clean**2) / np.mean((y - y.mean(0)) ** 2))
    assert np.abs(size * distances(y) - distances(sample.clean)).mean() < 0.05


def test_three_coordinates_of_a_torus_are_the_torus():
    """The smoothest three functions would know of the long way around alone."""
    sample = make_torus(800, random_state=0)
    y = chart_of(sample, n_components=3).coordinates
    assert LinearRegression().fit(y, sample.clean).score(y, sample.clean) > 0.95
    assert trustworthiness(sample.clean, y) > 0.995


FLAT = {
    "Swiss roll": (lambda: make_swiss_roll(800, random_state=0), unrolled, 1),
    "plane": (lambda: make_affine_subspace(500, 3, 6, random_state=0), lambda s: s.parameters, 2),
}


@pytest.mark.parametrize("make, flat, n_components", FLAT.values(), ids=FLAT)
def test_fewer_coordinates_of_what_can_be_laid_flat_are_the_leading_ones(make, flat, n_components):
    """To scale, though paths along edges are longer than the straight way."""
    sample = make()
    u = PCA(n_components).fit_transform(flat(sample))
    y = chart_of(sample, n_components=n_components).coordinates
    assert np.abs(distances(y) - distances(u)).mean() < 0.05 * distances(u).mean()


def test_fewer_coordinates_of_a_sphere_keep_more_neighbors_than_its_linear_axes():
    sample = make_sphere(600, 4, random_state=0)
    y = chart_of(sample, n_components=3).coordinates
    linear = PCA(3).fit_transform(sample.clean)
    assert trustworthiness(sample.clean, y) > trustworthiness(sample.clean, linear)


def test_some_sources_of_distances_suffice(monkeypatch):
    sample = make_swiss_roll(500, random_state=0)
    y = chart_of(sample, n_components=1).coordinates
    monkeypatch.setattr(geodesics, "_SOURCES", 100)
    fewer = chart_of(sample, n_components=1).coordinates
    assert not np.array_equal(fewer, y)
    assert np.abs(distances(fewer) - distances(y)).mean() < 0.02 * distances(y).mean()


def test_edge_stress_is_the_share_of_lengths_that_is_lost(rng):
    y, edges = rng.standard_normal((50, 3)), rng.integers(50, size=(50, 6))
    edges[:, 0] = np.arange(50)
    lengths = np.linalg.norm(y[edges] - y[:, None], axis=2)
    assert geodesics.edge_stress(7 * y, edges, lengths) == pytest.approx(0, abs=1e-12)
    flat, real = y * [1, 1, 0], (edges != edges[:, :1])
    found = np.linalg.norm(flat[edges] - flat[:, None], axis=2)[real]
    best = min(((c * found - lengths[real]) ** 2).sum() for c in np.linspace(0, 3, 3001))
    expected = best / (lengths[real] ** 2).sum()
    assert geodesics.edge_stress(flat, edges, lengths) == pytest.approx(expected, rel=1e-3)
    assert geodesics.edge_stress(0 * y, edges, lengths) == 1


def test_new_points_get_their_place_among_fewer_coordinates():
    sample = make_swiss_roll(500, random_state=0)
    chart, fresh = chart_of(sample, n_components=1), make_swiss_roll(50, random_state=1)
    line = LinearRegression().fit(chart.coordinates, unrolled(sample)[:, 0])
    assert line.score(chart.transform(fresh.clean, level), unrolled(fresh)[:, 0]) > 0.999


def test_derivatives_have_no_say_where_neighbors_lie_off_the_tangent_spaces(rng):
    """Points that form no surface: a new one is placed among those near it, not beyond them."""
    x, fresh = rng.standard_normal((400, 8)), rng.standard_normal((100, 8))
    plane = np.broadcast_to(np.eye(8)[:, :2], (400, 8, 2))
    chart = align_tangent_spaces(x, plane, 2, 14, level, np.ones(400))
    near = chart.coordinates[nearest(chart.points, fresh, 15)[1]]
    spread = np.linalg.norm(near.std(axis=1), axis=1).mean()
    mean = replace(chart, gradients=0 * chart.gradients).transform(fresh, level)
    moved = np.linalg.norm(chart.transform(fresh, level) - mean, axis=1).mean()
    assert moved < 0.7 * spread  # .9 of it if derivatives were believed everywhere


def test_too_few_neighbors_are_refused_where_nothing_follows_from_them():
    sample = make_affine_subspace(300, 5, 6, random_state=0)
    with pytest.raises(ValueError, match=r"n_neighbors=4 is too few .* dimension 5.* least 7"):
        chart_of(sample, n_neighbors=4)
    assert np.isfinite(chart_of(sample, n_components=2, n_neighbors=4).coordinates).all()


@pytest.mark.parametrize("n_components", [1, 4, 5, 7])
@pytest.mark.parametrize("n_rows", [7, 300])
def test_repeated_points_have_one_place(n_rows, n_components):
    """All of them, or a piece of them, as rows of zeros are in some tables."""
    tangents = np.broadcast_to(np.eye(6)[:, :5], (n_rows, 6, 5))
    chart = align_tangent_spaces(
        np.ones((n_rows, 6)), tangents, n_components, 20, level, np.ones(n_rows)
    )
    assert not np.ptp(chart.coordinates, axis=0).any() and not chart.gradients.any()


def test_more_coordinates_than_points_are_zero():
    sample = make_affine_subspace(12, 1, 2, random_state=0)
    chart = chart_of(sample, n_components=20, n_neighbors=4)
    assert chart.coordinates.shape == (12, 20)
    assert np.isfinite(chart.coordinates).all() and not chart.coordinates[:, 12:].any()


def test_coordinates_do_not_depend_on_place_and_turn():
    sample = make_s_curve(300, random_state=0)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3))).Q
    moved = sample._replace(clean=5 + sample.clean @ turn.T, tangents=turn @ sample.tangents)
    expected = chart_of(sample).coordinates
    np.testing.assert_allclose(chart_of(moved).coordinates, expected, atol=1e-4)


def test_edges_that_leave_the_tangent_space_are_cut():
    """Two sheets as near to each other as the farther neighbours within them."""
    rng = np.random.default_rng(0)
    u = rng.uniform(size=(400, 2))
    x = np.c_[u, 0.25 * (np.arange(400) % 2)]
    Q = np.broadcast_to(np.eye(3)[:, :2], (400, 3, 2))
    with pytest.warns(UserWarning, match="2 pieces"):
        chart = align_tangent_spaces(x, Q, 2, 12, level, np.ones(400))
    for label in range(2):
        rows = chart.component == label
        assert len(np.unique(x[rows, 2])) == 1
        np.testing.assert_allclose(
            distances(chart.coordinates[rows]), distances(x[rows]), atol=0.02
        )


@pytest.mark.parametrize("seed", [101, 103])
def test_narrow_gap_that_the_density_does_not_show_is_not_bridged(seed):
    """Near the poles the wedge is as wide as a neighbourhood; one edge over it folds the angles."""
    sample = make_severed_sphere(1500, random_state=seed)
    chart, p = chart_of(sample), sample.parameters
    assert np.abs(p[chart.neighbors, 0] - p[:, :1]).max() < np.pi
    assert LinearRegression().fit(chart.coordinates, p).score(chart.coordinates, p) > 0.994


def test_functions_without_gradient_are_no_part_of_what_keeps_lengths(rng):
    J = rng.normal(size=(50, 4, 2))
    J[:, 1] = 0
    A = _most_isometric(J, np.ones(50))
    assert np.isfinite(A).all()


@pytest.mark.filterwarnings("ignore:the data fall into")
def test_points_that_tangent_spaces_know_nothing_of_have_finite_coordinates(rng):
    line = np.zeros((60, 3))
    line[:, 0] = rng.uniform(size=60)
    across = np.broadcast_to(np.eye(3)[:, 1:2], (60, 3, 1))
    chart = align_tangent_spaces(line, across, 1, 5, level, np.ones(60))
    assert np.isfinite(chart.coordinates).all()


def test_pieces_are_laid_side_by_side():
    sample = make_affine_subspace(400, 2, 3, random_state=0)
    sample = sample._replace(clean=sample.clean + np.where(sample.clean[:, :1] < 0, -5, 5))
    with pytest.warns(UserWarning, match="2 pieces"):
        chart = chart_of(sample, valley=wall)
    left, right = (chart.coordinates[chart.component == i, 0] for i in range(2))
    assert left.max() < right.min()
    y = chart.transform(sample.clean, wall)
    np.testing.assert_allclose(y, chart.coordinates, atol=1e-6)


def test_edges_across_a_valley_are_cut():
    sample = make_affine_subspace(300, 2, 3, random_state=0)
    with pytest.warns(UserWarning, match="2 pieces"):
        chart = chart_of(sample, valley=wall)
    x = chart.points[:, 0]
    assert (np.sign(x[chart.neighbors]) == np.sign(x)[:, None]).all()


def test_a_few_points_apart_are_placed_like_new_ones():
    sample = make_affine_subspace(300, 2, 3, random_state=0)
    far = sample.clean.copy()
    far[:2, 0] += 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = chart_of(
            sample._replace(clean=far),
            valley=lambda a, b: np.where(np.abs(a - b).max(axis=1) > 500, -1.0, 0.0),
        )
    assert len(chart.points) == 298
    assert np.isfinite(chart.transform(far, level)).all()


def test_data_without_a_manifold_do_not_fall_to_pieces():
    """Most edges leave a plane that was put through a ball: only the worst tenth is cut."""
    x = np.random.default_rng(0).normal(size=(300, 8))
    Q = np.broadcast_to(np.eye(8)[:, :2], (300, 8, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = align_tangent_spaces(x, Q, 2, 14, level, np.ones(300))
    assert len(chart.points) > 290
    assert np.isfinite(chart.transform(x, level)).all()


def test_a_point_that_knows_nobody_gets_coordinates():
    """Its own tangent plane is turned, so that it cuts all its edges; others still see it."""
    x = np.random.default_rng(0).uniform(size=(200, 2)) @ np.eye(3)[:2]
    Q = np.array(np.broadcast_to(np.eye(3)[:, :2], (200, 3, 2)))
    Q[0] = np.eye(3)[:, 1:]
    chart = align_tangent_spaces(x, Q, 2, 14, level, np.ones(200))
    assert np.isfinite(chart.coordinates).all() and np.isfinite(chart.gradients).all()


@pytest.mark.parametrize("dim", [1, 4])
def test_sparse_and_dense_factorisation_both_find_a_subspace(dim):
    sample = make_affine_subspace(400, dim, 6, random_state=0)
    y = chart_of(sample).coordinates
    np.testing.assert_allclose(distances(y), distances(sample.clean), atol=1e-3)
