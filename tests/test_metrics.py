"""Laws of the angles between subspaces, and of the errors of a dimension."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from alignlearn.metrics import (
    dimension_errors,
    largest_angle,
    normal_angle,
    principal_angles,
    projector_distance,
    tangent_error,
)

MEASURES = [principal_angles, tangent_error, largest_angle, projector_distance]
WIDTHS = [(1, 1), (2, 2), (3, 3), (2, 4), (4, 2), (3, 6), (6, 6)]  # in R^6: all codimensions


def frames(n, D, d, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, D, d))).Q


def planes_at(theta, D=7, seed=0):
    """Two d-planes in R^D with principal angles `theta`, in random position and random bases."""
    d = len(theta)
    U = frames(1, D, D, seed)[0]
    A, N = U[:, :d], U[:, d : 2 * d]
    B = A * np.cos(theta) + N * np.sin(theta)
    return A @ frames(1, d, d, seed + 1)[0], B @ frames(1, d, d, seed + 2)[0]


@pytest.mark.parametrize("d_a, d_b", WIDTHS)
def test_principal_angles_equal_scipy_point_by_point(d_a, d_b):
    A, B = frames(20, 6, d_a, 0), frames(20, 6, d_b, 1)
    expected = [np.sort(subspace_angles(a, b)) for a, b in zip(A, B, strict=True)]
    np.testing.assert_allclose(principal_angles(A, B), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.1, np.pi / 4, 1.5, np.pi / 2])
def test_planes_turned_by_a_known_angle_are_that_angle_apart(size):
    theta = np.array([0.0, size / 3, size])
    np.testing.assert_allclose(principal_angles(*planes_at(theta)), theta, rtol=0, atol=5e-15)


def test_tiny_and_right_angles_are_accurate_side_by_side():
    theta = np.array([1e-9, 1e-4, np.pi / 2 - 1e-9])
    np.testing.assert_allclose(principal_angles(*planes_at(theta)), theta, rtol=0, atol=5e-15)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("d_a, d_b", WIDTHS)
def test_measures_depend_on_spans_alone(measure, d_a, d_b):
    A, B, turn = frames(10, 6, d_a, 0), frames(10, 6, d_b, 1), frames(10, 6, 6, 2)
    expected = measure(A, B)
    in_other_bases = measure(A @ frames(10, d_a, d_a, 3), B @ frames(10, d_b, d_b, 4))
    np.testing.assert_allclose(in_other_bases, expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(measure(turn @ A, turn @ B), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(measure(B, A), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("measure", [*MEASURES, normal_angle])
def test_a_single_frame_is_compared_with_every_point(measure):
    A, B = frames(5, 4, 3, 0), frames(1, 4, 3, 1)[0]
    by_point = [measure(a, B) for a in A]
    np.testing.assert_array_equal(np.shape(by_point[0]), np.shape(measure(A, B))[1:])
    np.testing.assert_allclose(measure(A, B), by_point, atol=1e-11)
    np.testing.assert_allclose(measure(B, A), by_point, atol=1e-11)


@pytest.mark.parametrize("d_a, d_b", WIDTHS)
def test_projector_distance_is_the_frobenius_norm_of_the_difference(d_a, d_b):
    A, B = frames(10, 6, d_a, 0), frames(10, 6, d_b, 1)
    difference = A @ A.swapaxes(1, 2) - B @ B.swapaxes(1, 2)
    dense = np.linalg.norm(difference, axis=(1, 2))
    np.testing.assert_allclose(projector_distance(A, B), dense, atol=1e-12)


@pytest.mark.parametrize("size", [1e-9, 1e-6])
def test_projector_distance_of_small_angles_is_their_rms_times_root_2d(size):
    A, B = planes_at(np.array([size / 2, size]))
    rms = np.radians(tangent_error(A, B))
    np.testing.assert_allclose(projector_distance(A, B), np.sqrt(2 * 2) * rms, rtol=1e-5)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_sine_of_the_largest_angle_is_the_spectral_norm_of_the_projectors_difference(d):
    A, B = frames(10, 6, d, 0), frames(10, 6, d, 1)
    norm = np.linalg.norm(A @ A.swapaxes(1, 2) - B @ B.swapaxes(1, 2), ord=2, axis=(1, 2))
    np.testing.assert_allclose(np.sin(np.radians(largest_angle(A, B))), norm, atol=1e-12)


def test_normal_angle_is_the_angle_between_the_normals():
    Q, P = frames(20, 5, 5, 0), frames(20, 5, 5, 1)
    cos = np.abs(np.sum(Q[:, :, -1] * P[:, :, -1], axis=1))
    np.testing.assert_allclose(
        normal_angle(Q[:, :, :-1], P[:, :, :-1]), np.degrees(np.arccos(cos)), atol=1e-9
    )


def test_tangent_error_is_the_rms_angle_in_degrees():
    A, B = planes_at(np.radians([0.0, 30.0, 60.0]))
    np.testing.assert_allclose(tangent_error(A, B), np.sqrt((30**2 + 60**2) / 3), rtol=1e-12)


def test_float32_frames_pass_and_no_point_is_no_error():
    A = frames(10, 50, 5, 0)
    assert largest_angle(A.astype(np.float32), A).max() < 1e-4
    assert principal_angles(A[:0], A[:0]).shape == (0, 5)


@pytest.mark.parametrize("measure", [*MEASURES, normal_angle])
@pytest.mark.parametrize(
    "A, B, message",
    [
        (np.eye(3)[:, :2], np.eye(4)[:, :3], "same space, got A in R.3 and B in R.4"),
        (frames(3, 3, 2, 0), frames(2, 3, 2, 0), "one frame of B per frame of A, got 2 and 3"),
        (np.ones(3), np.eye(3)[:, :2], r"expected A of shape \(n, D, d\)"),
        (np.eye(3)[:, :2], np.ones((1, 1, 3, 2)), r"expected B of shape \(n, D, d\)"),
        (np.eye(3)[:, :2], np.full((3, 2), np.nan), "finite numbers in B"),
        (
            2 * np.eye(3)[:, :2],
            np.eye(3)[:, :2],
            "orthonormal columns in A, got A.T A - I as large",
        ),
        (np.eye(3)[:, :2], np.ones((3, 2)) / np.sqrt(3), "orthonormal columns in B"),
    ],
)
def test_frames_that_cannot_be_compared_are_refused(measure, A, B, message):
    with pytest.raises(ValueError, match=message):
        measure(A, B)


def test_normal_angle_refuses_other_codimensions():
    with pytest.raises(ValueError, match="3 columns in R.4, got 2 columns in B: use largest_angle"):
        normal_angle(np.eye(4)[:, :3], np.eye(4)[:, :2])


def test_dimension_errors_are_share_right_mean_absolute_and_mean_relative_error():
    errors = dimension_errors([1, 2, 4, 10], [1.4, 2.0, 5.0, 8.0])
    assert errors == pytest.approx((0.5, (0.4 + 0 + 1 + 2) / 4, (0.4 + 0 + 0.25 + 0.2) / 4))
    assert dimension_errors(2, [2, 3]) == pytest.approx((0.5, 0.5, 0.25))


@pytest.mark.parametrize(
    "d_true, d_pred, message",
    [
        ([1, 2], [1, 2, 3], "one estimate per true dimension"),
        ([1, 2], [1, np.nan], "finite dimensions"),
        ([0, 2], [1, 2], "true dimensions above 0, got 0"),
        ([], [], "at least one estimate"),
    ],
)
def test_dimensions_that_cannot_be_compared_are_refused(d_true, d_pred, message):
    with pytest.raises(ValueError, match=message):
        dimension_errors(d_true, d_pred)
