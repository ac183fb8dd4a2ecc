r"""How far an estimate is from the truth: angles between subspaces, errors of a dimension.

A tangent space is a *frame*: ``d`` orthonormal columns in ``R^D``, so ``n`` of them are an array
``(n, D, d)``. Every function here takes two stacks of frames, or a single frame ``(D, d)`` in
either place, and depends on the spans alone, never on the basis chosen inside them.
`principal_angles` is in radians, as `scipy.linalg.subspace_angles` is; the errors people read are
in degrees.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "DimensionErrors",
    "dimension_errors",
    "largest_angle",
    "normal_angle",
    "principal_angles",
    "projector_distance",
    "tangent_error",
]

_ORTHONORMAL_TOL = 1e-5  # a float32 QR passes; unnormalised or bfloat16 columns do not


def principal_angles(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    r"""Principal angles between the column spans of two frames.

    With the singular values ``cos theta`` of ``A^T B`` and ``sin theta`` of ``B - A A^T B`` (A the
    wider frame),

    .. math:: \theta_i = \operatorname{atan2}(\sin\theta_i, \cos\theta_i),

    accurate to rounding at every size: the cosine alone cannot tell angles below ``1e-8`` from
    zero, the sine alone fails near a right angle.

    Parameters
    ----------
    A : array-like of shape (n, D, d_a) or (D, d_a)
        Orthonormal columns.
    B : array-like of shape (n, D, d_b) or (D, d_b)
        Orthonormal columns.

    Returns
    -------
    theta : ndarray of shape (n, min(d_a, d_b)) or (min(d_a, d_b),)
        Angles in radians, ascending, in ``[0, pi / 2]``. All are zero exactly when one span
        contains the other.

    References
    ----------
    Bjorck & Golub, "Numerical methods for computing angles between linear subspaces", Math. Comp.
    27 (1973); Knyazev & Argentati, "Principal angles between subspaces in an A-based scalar
    product", SIAM J. Sci. Comput. 23 (2002).

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.metrics import principal_angles
    >>> A = np.eye(3)[:, :2]
    >>> B = np.array([[1, 0], [0, np.cos(1e-9)], [0, np.sin(1e-9)]])
    >>> principal_angles(A, B)
    array([0.e+00, 1.e-09])
    """
    A, B = _check_frames(A, B)
    if A.shape[-1] < B.shape[-1]:
        A, B = B, A
    AtB = A.swapaxes(-1, -2) @ B
    cos = np.linalg.svd(AtB, compute_uv=False)  # descending: angles ascending
    sin = np.linalg.svd(B - A @ AtB, compute_uv=False)[..., ::-1]
    return np.arctan2(sin, cos)


def tangent_error(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    r"""Root mean square of the principal angles at each point, in degrees.

    Parameters
    ----------
    A, B : array-like of shape (n, D, d) or (D, d)
        Orthonormal columns. With unequal widths the narrower space is compared with the nearest
        subspace of the wider one: a space that is too wide and contains the other has error 0
        (`projector_distance` does count it).

    Returns
    -------
    error : ndarray of shape (n,) or float
        Degrees, between 0 and 90.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.metrics import tangent_error
    >>> float(tangent_error(np.eye(4)[:, :2], np.eye(4)[:, 1:3]).round(2))  # angles 0 and 90
    63.64
    """
    return np.degrees(np.sqrt(np.mean(principal_angles(A, B) ** 2, axis=-1)))


def largest_angle(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    r"""Largest principal angle at each point, in degrees.

    Its sine is the spectral norm ``||P_A - P_B||_2`` of the difference of projectors when ``d_a =
    d_b``.

    Parameters
    ----------
    A, B : array-like of shape (n, D, d) or (D, d)
        Orthonormal columns.

    Returns
    -------
    angle : ndarray of shape (n,) or float
        Degrees, between 0 and 90.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.metrics import largest_angle
    >>> float(largest_angle(np.eye(4)[:, :2], np.eye(4)[:, 1:3]))
    90.0
    """
    return np.degrees(principal_angles(A, B)[..., -1])


def normal_angle(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    r"""Angle between the normals of two tangent hyperplanes at each point, in degrees.

    In codimension 1 all principal angles but the largest vanish, and that one is the angle between
    the (unsigned) normal lines; this is the error reported for surfaces in ``R^3``.

    Parameters
    ----------
    A, B : array-like of shape (n, D, D - 1) or (D, D - 1)
        Orthonormal columns spanning the tangent hyperplanes (not the normals).

    Returns
    -------
    angle : ndarray of shape (n,) or float
        Degrees, between 0 and 90.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.metrics import normal_angle
    >>> float(normal_angle(np.eye(3)[:, :2], np.eye(3)[:, 1:]))  # normals e_3 and e_1
    90.0
    """
    for name, shape in (("A", np.shape(A)), ("B", np.shape(B))):
        if len(shape) >= 2 and shape[-1] != shape[-2] - 1:
            raise ValueError(
                f"expected hyperplanes, {shape[-2] - 1} columns in R^{shape[-2]}, got {shape[-1]} "
                f"columns in {name}: use largest_angle or tangent_error in other codimensions"
            )
    return largest_angle(A, B)


def projector_distance(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    r"""Frobenius distance of the orthogonal projectors at each point.

    .. math:: \|A A^T - B B^T\|_F = \sqrt{|d_a - d_b| + 2 \textstyle\sum_i \sin^2 \theta_i},

    a metric on subspaces, also of unequal dimension; for equal dimensions and small angles it is
    ``sqrt(2 d)`` times the RMS principal angle in radians. Computed from the angles, so it keeps
    its digits near 0.

    Parameters
    ----------
    A : array-like of shape (n, D, d_a) or (D, d_a)
        Orthonormal columns.
    B : array-like of shape (n, D, d_b) or (D, d_b)
        Orthonormal columns.

    Returns
    -------
    distance : ndarray of shape (n,) or float
        Between 0 and ``sqrt(d_a + d_b)``.

    References
    ----------
    Golub & Van Loan, "Matrix Computations", 4th ed., section 6.4.3; Ye & Lim, "Schubert varieties
    and distances between subspaces of different dimensions", SIAM J. Matrix Anal. Appl. 37 (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.metrics import projector_distance
    >>> float(projector_distance(np.eye(4)[:, :1], np.eye(4)[:, :2]))
    1.0
    """
    theta = principal_angles(A, B)
    excess = abs(np.shape(A)[-1] - np.shape(B)[-1])
    return np.sqrt(excess + 2 * np.sum(np.sin(theta) ** 2, axis=-1))


class DimensionErrors(NamedTuple):
    """What `dimension_errors` returns.

    Attributes
    ----------
    accuracy : float
        Share of estimates that are right once rounded to an integer.
    mean_absolute_error : float
        Mean of ``|d_pred - d_true|``.
    mean_relative_error : float
        Mean of ``|d_pred - d_true| / d_true``, as in published tables of intrinsic dimension.
    """

    accuracy: float
    mean_absolute_error: float
    mean_relative_error: float


def dimension_errors(d_true: ArrayLike, d_pred: ArrayLike) -> DimensionErrors:
    r"""Errors of estimated intrinsic dimensions, over points or over data sets.

    Parameters
    ----------
    d_true : array-like of shape (n,) or int
        True dimensions, positive.
    d_pred : array-like of shape (n,) or float
        Estimates; fractions are allowed.

    Returns
    -------
    errors : DimensionErrors
        ``accuracy``, ``mean_absolute_error``, ``mean_relative_error``.

    References
    ----------
    Campadelli et al., "Intrinsic dimension estimation: relevant techniques and a benchmark
    framework", Math. Probl. Eng. (2015), for the mean relative error.

    Examples
    --------
    >>> from alignlearn.metrics import dimension_errors
    >>> errors = dimension_errors([2, 2, 4, 4], [2.4, 3, 4, 4])
    >>> errors.accuracy, errors.mean_absolute_error, errors.mean_relative_error
    (0.75, 0.35, 0.175)
    """
    d_true, d_pred = np.asarray(d_true, dtype=float), np.asarray(d_pred, dtype=float)
    if d_true.shape and d_pred.shape and d_true.shape != d_pred.shape:
        raise ValueError(
            f"expected one estimate per true dimension, got {d_pred.shape} for {d_true.shape}"
        )
    if not (np.isfinite(d_true).all() and np.isfinite(d_pred).all()):
        raise ValueError(
            "expected finite dimensions, got NaN or infinity: drop failed estimates, count them"
        )
    if not (d_true > 0).all():
        raise ValueError(f"expected true dimensions above 0, got {d_true.min():g}")
    if d_true.size == 0 or d_pred.size == 0:
        raise ValueError("expected at least one estimate, got none")
    error = np.abs(d_pred - d_true)
    return DimensionErrors(
        accuracy=float(np.mean(np.rint(d_pred) == d_true)),
        mean_absolute_error=float(np.mean(error)),
        mean_relative_error=float(np.mean(error / d_true)),
    )


def _check_frames(A: ArrayLike, B: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B as float64 frames that can be compared, or say why not."""
    A, B = _check_frame("A", A), _check_frame("B", B)
    if A.shape[-2] != B.shape[-2]:
        raise ValueError(
            f"expected frames in the same space, got A in R^{A.shape[-2]} and B in R^{B.shape[-2]}"
        )
    if A.ndim == B.ndim == 3 and len(A) != len(B):
        raise ValueError(
            f"expected one frame of B per frame of A, got {len(B)} and {len(A)}: "
            "to compare one frame with many, pass it as (D, d)"
        )
    return A, B


def _check_frame(name: str, frame: ArrayLike) -> np.ndarray:
    frame = np.asarray(frame, dtype=np.float64)
    if frame.ndim not in (2, 3) or not 1 <= frame.shape[-1] <= frame.shape[-2]:
        raise ValueError(
            f"expected {name} of shape (n, D, d) or (D, d) with 1 <= d <= D, got {frame.shape}"
        )
    if not np.isfinite(frame).all():
        raise ValueError(
            f"expected finite numbers in {name}, got NaN or infinity: drop those points first"
        )
    defect = np.abs(frame.swapaxes(-1, -2) @ frame - np.eye(frame.shape[-1])).max(initial=0.0)
    if defect > _ORTHONORMAL_TOL:
        raise ValueError(
            f"expected orthonormal columns in {name}, got {name}^T {name} - I as large as "
            f"{defect:.1e}: pass numpy.linalg.qr({name}).Q, its span is the same"
        )
    return frame
