"""A short readable report of the geometry that a fitted `LyapunovManifold` found."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from alignlearn.dimension import DimensionEstimate

_WIDTH = 88
_PER_LINE = 10  # classes in one line of the table
_MAX_CLASSES = 20


class ClassDimension(NamedTuple):
    """Pointwise dimension of one class.

    Attributes
    ----------
    label : object
        The class.
    n_points : int
        Points of it at which the dimension was measured.
    mode : int
        The most frequent dimension.
    quartiles : ndarray of shape (3,)
        Lower quartile, median, upper quartile.
    """

    label: object
    n_points: int
    mode: int
    quartiles: np.ndarray


class ScaleDimension(NamedTuple):
    """How many directions run along the data at one scale.

    Attributes
    ----------
    window : tuple of float
        Noise levels looked at, per feature, in the units of the data.
    dimension : float
        Mean over points of the sum of ``1 + exponent``, each between 0 and 1: a direction that
        survives counts 1, one that dies with the noise counts 0.
    """

    window: tuple[float, float]
    dimension: float


class LocalPCADimension(NamedTuple):
    """Dimension by principal components of each point's neighbours; medians over the points.

    Attributes
    ----------
    n_neighbors : tuple of int
        Neighbourhood sizes.
    variance : ndarray
        Components that hold 95 % of the variance, for each size.
    threshold : ndarray
        Components with more than 5 % of the largest one's variance (Fukunaga & Olsen 1971).
    ratio : ndarray
        Components before the largest ratio between successive variances.
    """

    n_neighbors: tuple[int, ...]
    variance: np.ndarray
    threshold: np.ndarray
    ratio: np.ndarray


def local_pca_dimension(
    X, n_neighbors=(20, 50, 100), *, n_points: int = 300, random_state=0
) -> LocalPCADimension:
    """Dimension of X by local PCA, what scikit-learn alone offers, under the usual rules.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_neighbors : tuple of int, default=(20, 50, 100)
        Sizes above n_samples - 1 are left out; the largest possible one stands in if none is left.
    n_points : int, default=300
        Points looked at, a random subset.
    random_state : int, RandomState instance or None, default=0
        Draws them.

    Returns
    -------
    LocalPCADimension
    """
    X = np.asarray(X, dtype=np.float64)
    n = len(X)
    sizes = tuple(k for k in n_neighbors if k < n) or (n - 1,)
    rows = check_random_state(random_state).permutation(n)[:n_points]
    # The distances need no units: one scalar, so that squares do not overflow.
    Z = (X - X.mean(axis=0)) / max(np.abs(X).max(), np.finfo(float).tiny)
    neighbors = NearestNeighbors(n_neighbors=max(sizes)).fit(Z)
    indices = neighbors.kneighbors(Z[rows], return_distance=False)
    medians = np.array(
        [[np.median(d) for d in _pca_rules(_spectra(Z, indices[:, :k]))] for k in sizes]
    )
    return LocalPCADimension(sizes, *medians.T)


def _spectra(Z: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Principal variances (n, min(k, D)) of the neighbours (n, k), descending, largest 1."""
    spectra = []
    for row in indices:
        patch = Z[row] - Z[row].mean(axis=0)
        values = np.linalg.svd(patch, compute_uv=False) ** 2
        spectra.append(values / max(values[0], np.finfo(float).tiny))
    return np.array(spectra)


def _pca_rules(spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    share = np.cumsum(spectra, axis=1) / spectra.sum(axis=1, keepdims=True).clip(1e-300)
    variance = 1 + (share < 0.95).sum(axis=1)
    threshold = (spectra > 0.05).sum(axis=1)
    # Below 1 % of the largest variance there is rounding and the rank, no geometry.
    floored = np.maximum(spectra, 0.01)
    ratio = 1 + (floored[:, :-1] / floored[:, 1:]).argmax(axis=1) if spectra.shape[1] > 1 else 1
    return variance, threshold, np.broadcast_to(ratio, variance.shape)


def scale_dimensions(
    manifold, X, *, n_scales: int = 3, n_points: int = 30, random_state=0
) -> tuple[ScaleDimension, ...]:
    """Dimension by scale, from the manifold's smallest noise level to the model's largest.

    Data with noise or texture have no single dimension: more directions appear as one looks closer.

    Parameters
    ----------
    manifold : LyapunovManifold
        Fitted.
    X : ndarray of shape (n_samples, n_features)
        Where to look; a random subset is taken.
    n_scales : int, default=3
        Number of windows, equally long in log noise.
    n_points : int, default=30
        Points looked at.
    random_state : int, RandomState instance or None, default=0
        Draws them.

    Returns
    -------
    tuple of ScaleDimension
        From the finest scale to the coarsest.
    """
    check_is_fitted(manifold)
    rows = check_random_state(random_state).permutation(len(X))[:n_points]
    found = manifold.scale_spectrum(X[rows], n_scales)
    return tuple(
        ScaleDimension((float(low), float(high)), float(dimension))
        for (low, high), dimension in zip(found.windows, found.dimension.mean(axis=0), strict=True)
    )


@dataclass(frozen=True, eq=False)
class GeometryReport:
    """What `LyapunovManifold` found, as numbers and as a short text (`str`).

    Build it with `from_estimator`.

    Attributes
    ----------
    n_samples, n_features : int
        Shape of the data.
    n_points : int
        Points at which the spectrum was measured.
    estimate : DimensionEstimate
        Dimension of the whole sample, with confidence and gap.
    pointwise_quartiles : ndarray of shape (3,)
        Quartiles of the pointwise dimension.
    exponents : ndarray of shape (3, k)
        Quartiles over the points of every Lyapunov exponent; row 1 is the median.
    window : tuple of float
        Noise levels that were looked at, in the units of the data (per feature).
    thickness : float
        How far the data typically reach in a direction off the manifold, in the units of the data.
        A Gaussian reading, see `alignlearn.dimension.local_extent`; NaN if there is no such
        direction, infinite if the data reach further than the window.
    scales : tuple of ScaleDimension
        Dimension by scale, finest first.
    classes : tuple of ClassDimension
        One entry for each class, empty without labels.
    local_pca : LocalPCADimension
        The baseline.
    loss : float or None
        Held-out loss of the model, if it was trained; 1 is a model that found no structure.
    n_steps, max_steps : int or None
        Optimisation steps taken and allowed.
    seconds : float or None
        Time of the fit, if it was handed in.
    """

    n_samples: int
    n_features: int
    n_points: int
    estimate: DimensionEstimate
    pointwise_quartiles: np.ndarray
    exponents: np.ndarray
    window: tuple[float, float]
    thickness: float
    scales: tuple[ScaleDimension, ...]
    classes: tuple[ClassDimension, ...]
    local_pca: LocalPCADimension
    loss: float | None = None
    n_steps: int | None = None
    max_steps: int | None = None
    seconds: float | None = None

    @classmethod
    def from_estimator(cls, manifold, X, y=None, *, seconds: float | None = None):
        """Report of a fitted estimator; it uses the spectrum that `fit` measured.

        Parameters
        ----------
        manifold : LyapunovManifold
            Fitted on X.
        X : array-like of shape (n_samples, n_features)
            The training data, rows in the same order.
        y : array-like of shape (n_samples,), optional
            Classes, to report each one's dimension.
        seconds : float, optional
            How long the fit took.

        Returns
        -------
        GeometryReport

        Raises
        ------
        ValueError
            If X or y does not have the shape of the training data.
        """
        check_is_fitted(manifold)
        X = np.asarray(X, dtype=np.float64)
        rows = manifold.reference_indices_
        if X.ndim != 2 or X.shape[1] != manifold.n_features_in_ or len(X) <= rows.max():
            raise ValueError(
                f"expected the training data, more than {rows.max()} rows of "
                f"{manifold.n_features_in_} features, got shape {X.shape}."
            )
        if y is not None and np.shape(y) != (len(X),):
            raise ValueError(f"expected a class for each of {len(X)} rows, got {np.shape(y)}.")
        exponents = manifold.reference_exponents_
        pointwise = manifold._pointwise(exponents)
        classes = () if y is None else _class_dimensions(pointwise, np.asarray(y)[rows])
        estimate, model = manifold.dimension_estimate_, manifold.model_
        s_min, s_max = manifold.window_
        unit = float(np.exp(model.scaling_.log_unit))
        return cls(
            n_samples=len(X),
            n_features=X.shape[1],
            n_points=len(rows),
            estimate=estimate,
            pointwise_quartiles=_quartiles(pointwise),
            exponents=_quartiles(exponents),
            window=(s_min * unit, s_max * unit),
            thickness=manifold.noise_level_,
            scales=scale_dimensions(manifold, X),
            classes=classes,
            local_pca=local_pca_dimension(X),
            loss=getattr(model, "loss_", None),
            n_steps=getattr(model, "n_iter_", None),
            max_steps=getattr(model, "max_iter", None),
            seconds=seconds,
        )

    def __str__(self) -> str:
        """Readable text, plain and aligned."""
        parts = [
            self._headline(),
            self._spectrum_text(),
            self._scale_text(),
            self._class_text(),
            self._pca_text(),
            self._model_text(),
        ]
        return "\n\n".join(part for part in parts if part)

    def _headline(self) -> str:
        d, D = self.estimate.dimension, self.n_features
        low, _, high = self.pointwise_quartiles
        lines = [f"{self.n_samples} rows, {D} features. Intrinsic dimension: {d}"]
        if not self.estimate.resolved:
            lines[0] += "  (not resolved)"
            lines += _wrap(
                "No direction contracts: either the data fill all their dimensions at these "
                "scales, or the model has not learned them yet; the number is from the distances "
                "between neighbours. Train longer to tell these apart."
            )
            return "\n".join(lines)
        if self.estimate.clear:
            says = f"At the finest scale looked at, the data vary in {d} direction{'s' * (d > 1)}."
        else:
            says = f"{d} is where a faint gap agrees best with the distances between neighbours."
        lines += _wrap(
            f"{says} {self.estimate.confidence:.0%} of {self.n_points} points say exactly {d}; "
            f"half of them say {low:.0f} to {high:.0f}."
        )
        if not self.estimate.clear:
            lines += _wrap(
                "No gap between the exponents is clear: the dimension depends on the scale, see "
                "the table below."
            )
        if self.estimate.confidence < 0.5:
            lines += _wrap("The points do not agree on one number: take the range, not the number.")
        return "\n".join(lines)

    def _spectrum_text(self) -> str:
        """Exponents around the gap."""
        median, d = self.exponents[1], self.estimate.dimension
        shown = range(max(1, d - 2), min(len(median), d + 3) + 1)
        shown = [*shown, len(median)] if len(median) > shown[-1] else list(shown)
        names = [f"{i}" for i in shown]
        rates = [f"{round(median[i - 1], 2) + 0.0:.2f}" for i in shown]
        low, high = self.window
        lines = _wrap(
            "Lyapunov exponents: how fast an error in a direction dies while the model turns noise "
            "into data. 0: it lives on, the direction runs along the data. -1: it dies with the "
            f"noise, the direction leaves the data. (noise per feature from {high:.3g} to {low:.3g}"
            ", in the units of the data)"
        )
        mark = ["|" if i == d and d < len(median) else " " for i in shown]
        for label, cells in [("direction", names), ("median exponent", rates)]:
            body = "".join(f"{cell:>7} {m}" for cell, m in zip(cells, mark, strict=True))
            lines.append(f"  {label:<16}{body}".rstrip())
        text = (
            "The gap at the bar, on a logarithmic scale of exponents, is "
            f"{self.estimate.gap:.2f}, where 1 is the way from 0 to -1."
        )
        if np.isfinite(self.thickness):
            text += f" Typical reach of the data off those directions: {self.thickness:.2g}."
        return "\n".join(lines + (_wrap(text) if d < len(median) else []))

    def _scale_text(self) -> str:
        """Dimension by scale."""
        windows = [f"{s.window[0]:.2g} - {s.window[1]:.2g}" for s in self.scales]
        counts = [f"{s.dimension:.1f}" for s in self.scales]
        lines = ["Directions along the data, by scale (a direction half alive counts half)"]
        for name, cells in [("noise per feature", windows), ("directions", counts)]:
            lines.append(f"  {name:<18}" + "".join(f"{cell:>16}" for cell in cells))
        return "\n".join(lines)

    def _class_text(self) -> str:
        if not self.classes:
            return ""
        lines = ["Dimension of each class (most frequent; then the middle half of its points)"]
        classes = self.classes[:_MAX_CLASSES]
        for start in range(0, len(classes), _PER_LINE):
            block = classes[start : start + _PER_LINE]
            table = {
                "class": [str(c.label)[:6] for c in block],
                "dimension": [str(c.mode) for c in block],
                "half within": [f"{c.quartiles[0]:.0f}-{c.quartiles[2]:.0f}" for c in block],
            }
            lines += [
                f"  {name:<12}" + "".join(f"{cell:>7}" for cell in cells)
                for name, cells in table.items()
            ]
        if len(self.classes) > _MAX_CLASSES:
            lines.append(f"  and {len(self.classes) - _MAX_CLASSES} more classes")
        return "\n".join(lines)

    def _pca_text(self) -> str:
        pca = self.local_pca
        rows = {
            "neighbours": pca.n_neighbors,
            "95 % of the variance": pca.variance,
            "above 5 % of the largest": pca.threshold,
            "largest ratio": pca.ratio,
        }
        lines = ["For comparison, local PCA (scikit-learn only), by rule and number of neighbours"]
        lines += [
            f"  {name:<26}" + "".join(f"{value:>7.0f}" for value in values)
            for name, values in rows.items()
        ]
        return "\n".join(lines)

    def _model_text(self) -> str:
        parts = []
        if self.loss is not None:
            parts.append(
                f"Model: held-out loss {self.loss:.3f} (1: no structure found; lower is better)"
            )
            if self.n_steps is not None and self.max_steps is not None:
                parts.append(f"after {self.n_steps} of at most {self.max_steps} steps")
        text = " ".join(parts) + ("." if parts else "")
        if self.seconds is not None:
            text += f" Fitted in {self.seconds:.0f} s."
        return "\n".join(_wrap(text.strip()))


def _quartiles(values: np.ndarray) -> np.ndarray:
    return np.quantile(values, [0.25, 0.5, 0.75], axis=0)


def _class_dimensions(pointwise: np.ndarray, y: np.ndarray) -> tuple[ClassDimension, ...]:
    members = {label: pointwise[y == label] for label in np.unique(y)}
    return tuple(
        ClassDimension(label, len(d), int(np.bincount(d).argmax()), _quartiles(d))
        for label, d in members.items()
    )


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH)
