"""How far samples moved along and off a support, and how well vectors are aligned with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from alignlearn._arrays import in_chunks, row_chunks
from alignlearn.guards import guarded
from alignlearn.manifold import LyapunovManifold
from alignlearn.models.base import GenerativeModel


@dataclass(frozen=True)
class SupportShift:
    """Where samples went, in the units of the data.

    Attributes
    ----------
    tangential, normal : ndarray of shape (n_samples,)
        Lengths of the parts of each displacement along the tangent space where it starts and across
        it; their squares add up to that of the displacement.
    distance_before, distance_after : ndarray of shape (n_samples,)
        Distances to the support.
    threshold : float
        Samples farther from the support than this are off it.
    energy_distance : float
        Between the samples before and after, see `energy_distance`.
    """

    tangential: np.ndarray
    normal: np.ndarray
    distance_before: np.ndarray
    distance_after: np.ndarray
    threshold: float
    energy_distance: float

    @property
    def tangential_share(self) -> float:
        """Share of the squared displacement that is tangential; NaN where nothing moved."""
        along, across = np.sum(self.tangential**2), np.sum(self.normal**2)
        return float(along / (along + across)) if along + across > 0 else float("nan")

    @property
    def off_support_before(self) -> float:
        """Share of the samples that were off the support."""
        return float(np.mean(self.distance_before > self.threshold))

    @property
    def off_support(self) -> float:
        """Share of the samples that are off the support now."""
        return float(np.mean(self.distance_after > self.threshold))

    def to_dict(self) -> dict[str, float]:
        """Root mean squares and shares by name."""
        lengths = ("tangential", "normal", "distance_before", "distance_after")
        return {name: float(np.sqrt(np.mean(getattr(self, name) ** 2))) for name in lengths} | {
            "tangential_share": self.tangential_share,
            "off_support_before": self.off_support_before,
            "off_support": self.off_support,
            "threshold": self.threshold,
            "energy_distance": self.energy_distance,
        }

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={value:.4g}" for name, value in self.to_dict().items())
        return f"SupportShift({numbers})"


def support_shift(
    before,
    after,
    reference,
    *,
    frames=None,
    reference_frames=None,
    manifold: LyapunovManifold | None = None,
    distance=None,
    threshold: float | None = None,
) -> SupportShift:
    """Displacement of samples along and off a support.

    Parameters
    ----------
    before, after : array-like of shape (n_samples, n_features)
        As `perturbed_generation` gives them.
    reference : array-like of shape (n_reference, n_features)
        Points of the support, as many as its shape needs.
    frames : array-like of shape (n_samples, n_features, d), optional
        Orthonormal tangent vectors at the samples before.
    reference_frames : array-like of shape (n_reference, n_features, d), optional
        The same at the reference; that of the nearest reference point is taken.
    manifold : LyapunovManifold, optional
        Fitted; gives the tangent spaces at the nearest reference points, if no frames are handed
        in.
    distance : callable ``(X (n, D)) -> (n,)``, optional
        Exact distance to the support. Default: to the nearest reference point.
    threshold : float, optional
        Distance beyond which a sample is off the support. Default: the 99 % quantile of
        `distance` over the samples before.

    Returns
    -------
    SupportShift

    Raises
    ------
    ValueError
        If shapes do not agree, values are not finite or the tangent spaces are not given exactly
        once.

    Examples
    --------
    >>> import numpy as np
    >>> from alignlearn.support_shift import support_shift
    >>> line = np.c_[np.linspace(0, 1, 101), np.zeros(101)]
    >>> along = np.tile([[1.0], [0.0]], (101, 1, 1))
    >>> found = support_shift(line, line + [0.3, 0.4], line, frames=along, threshold=0.1)
    >>> found.tangential[0].round(6), found.normal[0].round(6), found.off_support
    (np.float64(0.3), np.float64(0.4), 1.0)
    """
    before, after = check_array(before, dtype=np.float64), check_array(after, dtype=np.float64)
    reference = check_array(reference, dtype=np.float64)
    if before.shape != after.shape:
        raise ValueError(
            "expected the same samples before and after, got shapes "
            f"{before.shape} and {after.shape}."
        )
    if reference.shape[1] != before.shape[1]:
        raise ValueError(
            f"expected a reference with {before.shape[1]} features, got {reference.shape[1]}."
        )
    tree = KDTree(reference)
    nearest = tree.query(before)[1]
    E = _frames_at(before, reference, nearest, frames, reference_frames, manifold)
    along, across = split_displacement(after - before, E)
    distance = distance or (lambda X: tree.query(X)[0])
    off = [np.asarray(distance(X), dtype=np.float64) for X in (before, after)]
    for values in off:
        if values.shape != (len(before),) or not np.isfinite(values).all():
            raise ValueError(
                f"expected finite distances of shape ({len(before)},), got {values.shape}."
            )
    threshold = float(np.quantile(off[0], 0.99)) if threshold is None else float(threshold)
    return SupportShift(
        np.linalg.norm(along, axis=1),
        np.linalg.norm(across, axis=1),
        *off,
        threshold,
        energy_distance(before, after),
    )


def split_displacement(displacement: np.ndarray, frames: np.ndarray) -> tuple:
    """Parts of displacements along tangent spaces and across them.

    Parameters
    ----------
    displacement : ndarray of shape (n, D)
    frames : ndarray of shape (n, D, d)
        Orthonormal columns.

    Returns
    -------
    along, across : ndarrays of shape (n, D)
        They add up to the displacement, and are orthogonal.
    """
    along = (frames @ (frames.swapaxes(1, 2) @ displacement[..., None]))[..., 0]
    return along, displacement - along


def _frames_at(X, reference, nearest, frames, reference_frames, manifold) -> np.ndarray:
    """Tangent frames (n, D, d) at the rows of X, from the one source that is given."""
    if sum(given is not None for given in (frames, reference_frames, manifold)) != 1:
        raise ValueError(
            "expected exactly one of frames=, reference_frames= and manifold= for the tangent "
            "spaces."
        )
    if manifold is not None:
        if not isinstance(manifold, LyapunovManifold):
            raise TypeError(f"manifold must be a LyapunovManifold, got {type(manifold).__name__}.")
        check_is_fitted(manifold)
        rows, inverse = np.unique(nearest, return_inverse=True)
        return manifold.tangent_space(reference[rows])[inverse]
    name, n = ("frames", len(X)) if frames is not None else ("reference_frames", len(reference))
    E = np.asarray(frames if frames is not None else reference_frames, dtype=np.float64)
    if E.ndim != 3 or E.shape[:2] != (n, X.shape[1]) or not 1 <= E.shape[2] <= E.shape[1]:
        raise ValueError(f"expected {name} of shape ({n}, {X.shape[1]}, d), got {E.shape}.")
    E = E if frames is not None else E[nearest]
    gram = E.swapaxes(1, 2) @ E
    if not np.abs(gram - np.eye(E.shape[2])).max() < 1e-5:
        raise ValueError(f"expected orthonormal columns in {name}: pass numpy.linalg.qr(E).Q.")
    return E


def energy_distance(X, Y) -> float:
    """``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` between two samples, all pairs counted.

    Parameters
    ----------
    X : array-like of shape (n, D)
    Y : array-like of shape (m, D)

    Returns
    -------
    distance : float
        At least 0, and 0 for equal samples only. (`scipy.stats.energy_distance` is the square root
        of this, for D = 1.)

    References
    ----------
    G. Szekely, M. Rizzo, "Energy statistics: a class of statistics based on distances", J. Stat.
    Plan. Inference 143 (2013).
    """
    X, Y = check_array(X, dtype=np.float64), check_array(Y, dtype=np.float64)
    if X.shape[1] != Y.shape[1]:
        raise ValueError(f"expected equally many features, got {X.shape[1]} and {Y.shape[1]}.")
    if X.shape == Y.shape and (X == Y).all():
        return 0.0
    value = 2 * _mean_distance(X, Y) - _mean_distance(X, X) - _mean_distance(Y, Y)
    return max(float(value), 0.0)


def _mean_distance(X: np.ndarray, Y: np.ndarray) -> float:
    chunks = row_chunks(len(X), 8 * len(Y))
    return sum(float(cdist(X[rows], Y).sum()) for rows in chunks) / (len(X) * len(Y))


def normal_cosine(vectors, directions) -> np.ndarray:
    """Cosine between Lyapunov vectors and the normal, or the score, at each point.

    0 is the alignment property (Definition 4.2 of the paper): the leading vectors are orthogonal to
    the target score.

    Parameters
    ----------
    vectors : array-like of shape (n, D) or (n, D, k)
        Orthonormal columns; of several the largest cosine within their span counts.
    directions : array-like of shape (n, D)
        Normals or scores, of any length but 0.

    Returns
    -------
    cosine : ndarray of shape (n,)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the shapes do not agree or a direction has no length.
    """
    vectors, directions = np.asarray(vectors, dtype=float), np.asarray(directions, dtype=float)
    vectors = vectors[..., None] if vectors.ndim == 2 else vectors
    if vectors.ndim != 3 or vectors.shape[:2] != directions.shape:
        raise ValueError(
            "expected vectors of shape (n, D) or (n, D, k) and directions of shape (n, D), got "
            f"{vectors.shape} and {directions.shape}."
        )
    length = np.linalg.norm(directions, axis=1)
    if not (np.isfinite(length) & (length > 0)).all():
        raise ValueError("expected directions with a finite length above 0: leave out the others.")
    cosines = np.einsum("nfk,nf->nk", vectors, directions / length[:, None])
    return np.minimum(np.linalg.norm(cosines, axis=1), 1.0)


def learned_score(model, X, noise: float | None = None) -> np.ndarray:
    """Score of the learned density, smoothed, at points, in the model's coordinates.

    Parameters
    ----------
    model : GenerativeModel or LyapunovManifold
        Fitted.
    X : array-like of shape (n_samples, n_features)
    noise : float, optional
        Noise level at which it is taken, in units of the data's standard deviation; default the
        model's smallest.

    Returns
    -------
    score : ndarray of shape (n_samples, n_features)
        ``(Den(x, s) - x) / s^2``.
    """
    if isinstance(model, LyapunovManifold):
        check_is_fitted(model)
        model = model.model_
    if not isinstance(model, GenerativeModel):
        raise TypeError(f"model must be one of alignlearn.models, got {type(model).__name__}.")
    x, denoise = model.encode(X), model.denoiser()
    s = model.noise_range_[0] if noise is None else float(noise)

    def score(rows: slice) -> torch.Tensor:
        return (denoise(x[rows], torch.tensor(s, dtype=torch.float64)) - x[rows]) / s**2

    chunks = row_chunks(len(x), 8 * model._bytes_per_column())
    with guarded(denoise), torch.no_grad():
        parts = in_chunks(score, chunks)
    return torch.cat(parts).double().cpu().numpy()
