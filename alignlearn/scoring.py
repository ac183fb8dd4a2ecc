"""Scores that need no truth, usable as `scoring=` in scikit-learn's model selection.

==========================  ====================================  ==================================
score                       says                                  takes
==========================  ====================================  ==================================
`denoising_score`           how well held-out rows are denoised;  models, manifolds
                            the one to select models by
`log_likelihood_score`      log density of held-out rows          models, manifolds
`dimension_score`           whether held-out rows show            manifolds
                            `dimension_`
`alignment_score`           whether tangent spaces hold the       manifolds
                            steps between neighbours, or agree
                            with true ones
==========================  ====================================  ==================================

Each is ``(estimator, X, y=None) -> float``, greater is better, and takes a fitted `GenerativeModel`
or `LyapunovManifold` as the table says, or a `Pipeline` that ends in one: then X goes through the
earlier steps first. Options are keywords, to be set with `functools.partial`::

    cross_val_score(LyapunovManifold(), X, scoring=denoising_score)
    GridSearchCV(Diffusion(), grid, scoring=partial(denoising_score, noise_range=(0.05, 2.0)))

All four are computed from the fitted estimator and X alone, without a draw from any global
generator: the same question gets the same answer.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from alignlearn._arrays import in_chunks, make_generator, row_chunks
from alignlearn._params import check_noise_range
from alignlearn.denoising import HeldOutLoss, denoising_loss
from alignlearn.dimension import pointwise_dimension
from alignlearn.guards import guarded
from alignlearn.manifold import LyapunovManifold
from alignlearn.measurement import inside_span, spans_all
from alignlearn.metrics import principal_angles
from alignlearn.models.base import GenerativeModel

__all__ = ["alignment_score", "denoising_score", "dimension_score", "log_likelihood_score"]


def denoising_score(
    estimator, X, y=None, *, noise_range=None, n_draws=2000, random_state=0
) -> float:
    """Minus the denoising loss of rows that the model has not seen.

    The mean over rows and noise of ``(1 + s^2) / s^2 |Den(x + s z, s) - x|^2 / D`` in the units of
    the data's standard deviation, which training minimises too: -1 for the best denoiser of
    isotropic Gaussian data, towards 0 for data that are easy to tell from noise. Noise is fixed, so
    that scores of the same rows differ by the models alone.

    Scores compare models of the same data: other preprocessing asks another question. Models
    with other noise ranges (`s_min`, and `KernelDiffusion`, which chooses its own) are compared
    with one `noise_range` for all; else the one that leaves out the hard levels wins.

    Parameters
    ----------
    estimator : GenerativeModel, LyapunovManifold or Pipeline that ends in one
        Fitted.
    X : array-like of shape (n_samples, n_features)
        Rows not used in fit; those seen in fit make memory look like skill.
    y : Ignored
        For scikit-learn's convention.
    noise_range : (s_min, s_max), optional
        Noise levels, log-uniform up to 2, above which little is decided. Default: the model's.
    n_draws : int, default=2000
        Rows are repeated with other noise up to about this number.
    random_state : int, default=0
        Draws the noise.

    Returns
    -------
    score : float
        At most 0.

    Raises
    ------
    TypeError
        If the estimator is of another kind.
    ValueError
        If X or `noise_range` is not usable, or the model has no score, as `FlowMatching` with
        coupled pairs.
    """
    model, X = _model_of(estimator, X)
    if not model.has_score:
        raise ValueError(
            "denoising_score asks for a model that removes independent Gaussian noise, got "
            f"{type(model).__name__} with coupled pairs or another source: compare such models by "
            "log_likelihood_score or alignment_score."
        )
    x, denoise = model.encode(X), model.denoiser()
    noise_range = model.noise_range_ if noise_range is None else noise_range
    check_noise_range(*noise_range)
    draws = HeldOutLoss(x, noise_range, make_generator(random_state, x.device), n_draws)

    def total(rows: slice) -> float:
        loss = denoising_loss(denoise, draws.x[rows], draws.s[rows], draws.z[rows])
        return float(loss) * len(draws.x[rows])

    chunks = row_chunks(len(draws.x), model._bytes_per_column())
    with guarded(denoise), torch.no_grad():
        return -sum(in_chunks(total, chunks)) / len(draws.x)


def log_likelihood_score(estimator, X, y=None) -> float:
    """Log density of held-out rows per feature, in nats.

    The density is that of the data smoothed at the model's smallest noise level, in the units of
    X as the last step of a pipeline sees it. It therefore changes with things that are no merit: by
    ``-log c`` where X is multiplied by c, as by a `StandardScaler`, and, on a manifold of dimension
    d, by ``-(1 - d / D) log c`` where the smallest noise level is. Compare models with equal
    `noise_range_` on equal preprocessing only; to choose between the others take `denoising_score`.

    Parameters
    ----------
    estimator : GenerativeModel, LyapunovManifold or Pipeline that ends in one
        Fitted.
    X : array-like of shape (n_samples, n_features)
    y : Ignored
        For scikit-learn's convention.

    Returns
    -------
    score : float
        Mean over rows of ``log p(x) / D``.

    Raises
    ------
    TypeError
        If the estimator is of another kind.
    """
    model, X = _model_of(estimator, X)
    return float(np.mean(model.score_samples(X))) / model.n_features_in_


def dimension_score(estimator, X, y=None) -> float:
    """Share of held-out rows whose own spectrum shows the fitted `dimension_`.

    At every row the dimension is the place of the largest gap in its own Lyapunov exponents, all
    directions where there is none (unless more exist than were read). Neighbour distances, which
    help `fit` and `LyapunovManifold.dimension` where no gap is clear, have no say here: a model
    that tells no direction from another does not agree with anything by default. On a mixture of
    dimensions the score is the share of the largest part.

    Parameters
    ----------
    estimator : LyapunovManifold or Pipeline that ends in one
        Fitted.
    X : array-like of shape (n_samples, n_features)
    y : Ignored
        For scikit-learn's convention.

    Returns
    -------
    score : float
        Between 0 and 1.

    Raises
    ------
    TypeError
        If the estimator is of another kind.
    """
    manifold, X = _manifold_of(estimator, X, dimension_score)
    exponents = inside_span(manifold.model_, manifold.lyapunov_exponents(X))
    found = pointwise_dimension(exponents, whole=spans_all(manifold.model_, exponents))
    return float(np.mean(found == manifold.dimension_))


def alignment_score(estimator, X, y=None, *, n_neighbors=5) -> float:
    r"""How much of the steps between held-out neighbours lies in the tangent spaces.

    For a row ``x_i`` and each of its nearest neighbours ``x_j`` among the rows of X, the step ``v =
    x_j - x_i`` is projected onto the plane midway between the tangent spaces of both: along a
    curve the chord is parallel to the mean of the two tangents up to third order, so that
    curvature does not count as an error. The share inside is compared with the ``d / D`` that a
    random plane has,

    .. math:: \frac{q - d / D}{1 - d / D}, \qquad
        q = \frac{\sum_{ij} |P_{ij} v_{ij}|^2}{\sum_{ij} |v_{ij}|^2},

    so that one more direction that holds no more than its part of the rest gains nothing. 0 is a
    guess, and what one gets where `dimension_` leaves nothing outside; noise in the data lowers
    the score of every model.

    With the true frames as y it is the agreement with them instead: ``1 - (mean principal angle) /
    90 degrees``, the mean over points and angles, tangent spaces taken as wide as the frames.

    Parameters
    ----------
    estimator : LyapunovManifold or Pipeline that ends in one
        Fitted.
    X : array-like of shape (n_samples, n_features)
        At least two different rows; the more there are, the nearer the neighbours.
    y : array-like of shape (n_samples, n_features, d), optional
        True tangent frames, orthonormal columns, in the coordinates that the manifold is fitted
        in: after the earlier steps of a pipeline.
    n_neighbors : int, default=5
        Neighbours of every row, less where there are fewer rows.

    Returns
    -------
    score : float
        At most 1.

    Raises
    ------
    TypeError
        If the estimator is of another kind.
    ValueError
        If y is no stack of frames, or all rows of X are equal.

    References
    ----------
    The midway plane is spanned by the bisectors of the principal vectors: Bjorck & Golub,
    "Numerical methods for computing angles between linear subspaces", Math. Comp. 27 (1973).
    """
    manifold, X = _manifold_of(estimator, X, alignment_score)
    if y is not None:
        truth = _check_frames(y, len(X), manifold.n_features_in_)
        angles = principal_angles(manifold.tangent_space(X, truth.shape[2]), truth)
        return float(1 - angles.mean() / (np.pi / 2))
    # The model's coordinates are isotropic: shares are those of X, and squares do not overflow.
    x = manifold.model_.encode(X).double().cpu().numpy()
    if (x == x[0]).all():
        raise ValueError(
            f"expected at least two different rows of X, between which there are steps, got "
            f"{len(x)} equal ones."
        )
    vectors, chance = manifold.tangent_space(X), manifold.dimension_ / x.shape[1]
    if chance == 1:
        return 0.0
    inside, length = 0.0, 0.0
    neighbors = NearestNeighbors(n_neighbors=min(n_neighbors, len(x) - 1)).fit(x).kneighbors()[1]
    for index in neighbors.T:
        steps = x[index] - x
        within = _midway(vectors, vectors[index]).swapaxes(1, 2) @ steps[..., None]
        inside, length = inside + np.sum(within**2), length + np.sum(steps**2)
    return float((inside / length - chance) / (1 - chance))


def _midway(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Frames (n, D, d) midway between A and B: bisectors of their principal vectors."""
    U, cos, Vt = np.linalg.svd(A.swapaxes(1, 2) @ B)
    return (A @ U + B @ Vt.swapaxes(1, 2)) / np.sqrt(2 + 2 * cos)[:, None, :]


def _check_frames(y, n: int, D: int) -> np.ndarray:
    frames = np.asarray(y)
    if frames.ndim != 3 or frames.shape[:2] != (n, D) or not 1 <= frames.shape[2] <= D:
        raise ValueError(
            f"expected y to be None or true frames of shape (n_samples, n_features, d) = ({n}, "
            f"{D}, d), got shape {frames.shape}: leave y out to be scored without a truth."
        )
    return frames


def _last_step(estimator, X):
    """What a pipeline ends in, and X as that sees it."""
    while isinstance(estimator, Pipeline):
        check_is_fitted(estimator)
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        estimator = estimator[-1]
    return estimator, X


def _model_of(estimator, X):
    """Fitted generative model inside an estimator, and X as that sees it."""
    found, X = _last_step(estimator, X)
    if not isinstance(found, GenerativeModel | LyapunovManifold):
        raise TypeError(
            "expected a generative model of alignlearn.models, a LyapunovManifold or a Pipeline "
            f"that ends in one, got {_name(estimator, found)}."
        )
    check_is_fitted(found)
    return (found.model_ if isinstance(found, LyapunovManifold) else found), X


def _manifold_of(estimator, X, score):
    """Fitted manifold inside an estimator, and X as that sees it."""
    found, X = _last_step(estimator, X)
    if not isinstance(found, LyapunovManifold):
        hint = ""
        if isinstance(found, GenerativeModel):
            hint = " A model alone has no tangent spaces: pass LyapunovManifold(model=...)."
        raise TypeError(
            f"{score.__name__} expected a LyapunovManifold or a Pipeline that ends in one, got "
            f"{_name(estimator, found)}.{hint}"
        )
    check_is_fitted(found)
    return found, X


def _name(estimator, found) -> str:
    name = found if isinstance(found, str) else type(found).__name__
    return name if found is estimator else f"a {type(estimator).__name__} that ends in {name}"
