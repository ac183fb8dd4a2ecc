"""Margins of a one-class SVM: at data, at generated samples, and after moves along and across."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from alignlearn.boundary import KernelBoundary

# Points at most in one optimal assignment, whose time grows with their cube.
_MAX_ASSIGNED = 2000


def match_samples(X: np.ndarray, Y: np.ndarray, chunk: int = _MAX_ASSIGNED) -> np.ndarray:
    """Rows of Y matched to the rows of X by optimal transport of squared distances.

    Parameters
    ----------
    X, Y : ndarray of shape (n, D)
    chunk : int, default=2000
        Larger samples are cut into slices of this size along the principal axis of X, and matched
        slice by slice: a transport that is nearly optimal.

    Returns
    -------
    matched : ndarray of shape (n, D)
        A permutation of the rows of Y.

    Raises
    ------
    ValueError
        If X and Y have different shapes.
    """
    if X.shape != Y.shape:
        raise ValueError(f"expected samples of one shape, got {X.shape} and {Y.shape}.")
    matched = np.empty_like(Y)
    axis = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][0] if len(X) > chunk else X[0]
    rows, others = np.argsort(X @ axis, kind="stable"), np.argsort(Y @ axis, kind="stable")
    for i in range(0, len(X), chunk):
        a, b = rows[i : i + chunk], others[i : i + chunk]
        matched[a] = Y[b][linear_sum_assignment(cdist(X[a], Y[b], "sqeuclidean"))[1]]
    return matched


@dataclass(frozen=True)
class MarginReport:
    """What the margin of a one-class SVM says of a generative model.

    Margins are geometric, ``(f(x) - offset) / ||w||``, in feature space: positive inside. Moved
    points are the data, each by the same `length` in a random direction of its tangent space
    ('aligned') or of its normal space ('normal', missing where there is none).

    Attributes
    ----------
    margins : dict of ndarray of shape (n_points,)
        At 'data', at the 'generated' samples matched to them by optimal transport, at 'aligned' and
        'normal' moves; at the data with SVMs trained on these data, 'trained_on_data', and on the
        generated samples instead, 'trained_on_generated'.
    inside : dict of float
        Share of 'data', 'generated', 'aligned' and 'normal' that the support holds to be inside.
    length : float
        Of the moves, in the units of the data.
    displacement : ndarray of shape (n_points,)
        From each point to the generated sample matched to it, in the units of the data.
    tangential_share : float
        Share of the squared displacements that is along the tangent spaces.
    feature_distance : ndarray of shape (n_points,)
        ``||Phi(x) - Phi(y)||`` of the matched pairs, by which alone a margin can change. Exact.
    lipschitz : float
        Lipschitz constant of Phi per unit of the data; infinity where it has none. Exact.
    offset_margin : float
        ``offset / ||w||``, the distance of the hyperplane from the origin: the margin of
        Proposition 4.1.
    slack : float
        ``sum_i max(0, offset - f(x_i)) / ||w||`` over the training rows.
    n_train : int
        Rows that the SVM was trained on.
    dimension : int
        Dimension of the tangent spaces.
    """

    margins: dict
    inside: dict
    length: float
    displacement: np.ndarray
    tangential_share: float
    feature_distance: np.ndarray
    lipschitz: float
    offset_margin: float
    slack: float
    n_train: int
    dimension: int

    @property
    def largest_change(self) -> float:
        """Largest change of a margin between a point and the sample generated for it."""
        return float(np.abs(self.margins["generated"] - self.margins["data"]).max())

    @property
    def retraining_change(self) -> float:
        """Mean change of the margin at the data once the SVM is trained on generated samples."""
        found = self.margins["trained_on_generated"] - self.margins["trained_on_data"]
        return float(found.mean())

    def proposition_bound(self, delta: float = 0.05) -> float:
        """Right side of Proposition 4.1, ``c log(n) / n + log(n^2 / (2 delta)) / n``.

        With ``c = 1 / offset_margin``: the paper gives c as O(1 / margin), so its constant is taken
        as 1 here. An order of magnitude, no certificate; see `schoelkopf_bound`.

        Parameters
        ----------
        delta : float, default=0.05
            Probability with which the bound may fail.
        """
        n = self.n_train
        return float((np.log(n) / self.offset_margin + np.log(n**2 / (2 * delta))) / n)

    def schoelkopf_bound(self, delta: float = 0.05) -> float:
        """The theorem behind the proposition, with its constants: share of the data law outside.

        Theorem 7 of Schoelkopf et al. (2001) for the half-space with half the offset:
        ``2 / n (k + log2(n^2 / (2 delta)))``, ``k = c_1 log2(c_2 g^2 n) / g^2 + 2 D / g
        log2(e ((2 n - 1) g / (2 D) + 1)) + 2``, ``c_1 = 16 c^2, c_2 = log(2) / (4 c^2), c = 103``,
        g half of `offset_margin` and D the `slack`. Its first term grows like ``1 / margin^2``,
        where the proposition says O(1 / margin). At most 1: as c_1 is 169744 it says nothing
        before n is in the millions.

        Parameters
        ----------
        delta : float, default=0.05
            Probability with which the bound may fail.
        """
        n, g, D, c2 = self.n_train, self.offset_margin / 2, self.slack, 103.0**2
        capacity = c2 * 16 * max(np.log2(max(np.log(2) / (4 * c2) * g**2 * n, 1.0)), 1.0) / g**2
        slack = 2 * D / g * np.log2(np.e * ((2 * n - 1) * g / (2 * D) + 1)) if D > 0 else 0.0
        return float(min(1.0, 2 / n * (capacity + slack + 2 + np.log2(n**2 / (2 * delta)))))

    def to_dict(self) -> dict:
        """Means and shares by name, plain numbers."""
        report = {f"margin_{name}": float(values.mean()) for name, values in self.margins.items()}
        report |= {f"inside_{name}": float(share) for name, share in self.inside.items()}
        return report | {
            "length": self.length,
            "displacement": float(np.sqrt(np.mean(self.displacement**2))),
            "tangential_share": self.tangential_share,
            "largest_change": self.largest_change,
            "largest_change_allowed": float(self.feature_distance.max()),
            "retraining_change": self.retraining_change,
            "lipschitz": self.lipschitz,
            "offset_margin": self.offset_margin,
            "proposition_bound": self.proposition_bound(),
            "schoelkopf_bound": self.schoelkopf_bound(),
            "slack": self.slack,
            "n_train": self.n_train,
            "n_points": len(self.displacement),
            "dimension": self.dimension,
        }

    def __repr__(self) -> str:
        names = {
            "data": "data",
            "generated": "generated, matched to the data",
            "aligned": f"moved by {self.length:.3g} along {self.dimension} Lyapunov vectors",
            "normal": f"moved by {self.length:.3g} across them",
        }
        head = f"margins at {len(self.displacement)} points"
        lines = [f"{head:<44}    mean      5 %  inside"]
        for key, label in names.items():
            if key in self.margins:
                m = self.margins[key]
                low = np.quantile(m, 0.05)
                lines.append(f"  {label:<42} {m.mean():+.4f}  {low:+.4f}  {self.inside[key]:6.1%}")
        d = self.to_dict()
        share = f"{self.tangential_share:.0%}" if np.isfinite(self.tangential_share) else "none"
        lines += [
            f"displacement data to generated: {d['displacement']:.3g}, {share} of it tangential; "
            f"largest change of a margin {self.largest_change:.4f}, at most "
            f"{d['largest_change_allowed']:.4f} by the kernel",
            f"SVM trained on generated instead of real samples: {self.retraining_change:+.4f} in "
            "the mean",
            f"Proposition 4.1 with constant 1: {d['proposition_bound']:.3g} of the data outside; "
            f"with the theorem's constants: {d['schoelkopf_bound']:.3g}",
        ]
        return "\n".join(lines)


def measure_margins(
    boundary: KernelBoundary,
    X: np.ndarray,
    generated: np.ndarray,
    frames: np.ndarray,
    *,
    length: float,
    inside: Callable[[np.ndarray], np.ndarray],
    retrain: Callable[[np.ndarray], KernelBoundary],
    training_scores: np.ndarray,
    random_state: np.random.RandomState,
    unit: float = 1.0,
) -> MarginReport:
    """Fill in a `MarginReport`.

    Parameters
    ----------
    boundary : KernelBoundary
        The SVM.
    X, generated : ndarray of shape (n_points, D)
        Data and as many generated samples, in the coordinates of the SVM.
    frames : ndarray of shape (n_points, D, d)
        Orthonormal tangent vectors at the data.
    length : float
        Of the moves.
    inside : callable ``(X (n, D)) -> (n,) of bool``
        Which points the support holds.
    retrain : callable ``(X (n, D)) -> KernelBoundary``
        Trains an SVM like the boundary.
    training_scores : ndarray of shape (n_train,)
        ``f`` at the rows that the SVM was trained on.
    random_state : RandomState
        Draws the directions.
    unit : float, default=1.0
        Length of 1 in the units of the data.

    Returns
    -------
    MarginReport
    """
    n, D, d = frames.shape
    matched = match_samples(X, generated)
    along = _unit((frames @ random_state.standard_normal((n, d, 1)))[..., 0])
    sets = {"data": X, "generated": matched, "aligned": X + length * along}
    if d < D:
        across = random_state.standard_normal((n, D))
        for _ in range(2):  # twice is enough (Kahan)
            across = across - (frames @ (frames.swapaxes(1, 2) @ across[..., None]))[..., 0]
        sets["normal"] = X + length * _unit(across)
    margins = {name: boundary.margin(points) for name, points in sets.items()}
    margins["trained_on_data"] = retrain(X).margin(X)
    margins["trained_on_generated"] = retrain(generated).margin(X)
    moved = matched - X
    tangential = np.square(frames.swapaxes(1, 2) @ moved[..., None]).sum()
    total = np.square(moved).sum()
    return MarginReport(
        margins=margins,
        inside={name: float(np.mean(inside(points))) for name, points in sets.items()},
        length=float(length * unit),
        displacement=np.linalg.norm(moved, axis=1) * unit,
        tangential_share=float(tangential / total) if total > 0 else float("nan"),
        feature_distance=boundary.feature_distance(X, matched),
        lipschitz=boundary.lipschitz / unit,
        offset_margin=boundary.offset / boundary.norm,
        slack=float(np.maximum(boundary.offset - training_scores, 0).sum() / boundary.norm),
        n_train=len(training_scores),
        dimension=d,
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(float).tiny)
