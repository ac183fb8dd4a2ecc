"""What `fit` measures once the model is learned: window, spectrum, dimension, noise level."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alignlearn.derivatives import ALL_COLUMNS
from alignlearn.dimension import FULL, DimensionEstimate, clarity, estimate_dimension, local_extent
from alignlearn.frames import FrameReader
from alignlearn.models.base import GenerativeModel
from alignlearn.neighbors import calibrated_dimension, contradiction

# A first normal exponent above this speaks of noise or too little training.
_FAR_FROM_FLOOR = -0.25

# Where the finest window contracts nothing beyond this rate, as under noise, others are tried in
# turn: its upper end alone, since noise hides the scales below its size, then more and more coarse
# scales with it. One is taken if something contracts there and the gap, at a few points, is so many
# times larger; by the closed form noise makes it 1.35 to 2.5 times as large at the upper end, and
# curvature, which biases coarser scales, makes it smaller there.
_UNCONTRACTED, _CLEARER = -0.5, 1.25
_UPPER_END, _COARSER = 0.5, (1.0, 2.5, 5.0)
_WINDOW_POINTS = 64

# Rows among which neighbours are sought at most, and numbers in them: time and memory.
_NEIGHBOR_ROWS, _NEIGHBOR_ENTRIES = 5000, 2**24

# When D is large and the dimension unknown, columns are doubled until a gap shows at a few points;
# not beyond a number that bounds time and memory.
_FIRST_COLUMNS, _MAX_COLUMNS, _SEARCH_POINTS = 48, 400, 8


class Measurement(NamedTuple):
    """The spectrum of a data set and what follows from it.

    Attributes
    ----------
    window : tuple of float
        Noise levels over which frames are taken.
    n_columns : int
        Columns that a frame needs.
    exponents : ndarray of shape (n_reference, n_columns)
        Spectrum at each reference row.
    estimate : DimensionEstimate
        Dimension of the sample.
    uniform : bool
        Whether every point has that dimension, because the exponents do not tell.
    refuted : bool
        Whether neighbours see fewer directions than reach to them by the exponents.
    neighbor_dimension : float or None
        What they see then; else the prior where no gap is clear.
    noise_level : float
        Reach of the data in normal directions, in their own units; NaN where there is none.
    """

    window: tuple[float, float]
    n_columns: int
    exponents: np.ndarray
    estimate: DimensionEstimate
    uniform: bool
    refuted: bool
    neighbor_dimension: float | None
    noise_level: float


def measure(
    frames: FrameReader,
    X: np.ndarray,
    rows: np.ndarray,
    window: tuple[float, float] | None,
    n_components: int | None,
) -> Measurement:
    """Measure the spectrum at some rows of X; `window` and `n_components` as the user gave them."""
    reference = X[rows]
    few = _spread(len(reference), _WINDOW_POINTS)
    chosen, known = _choose_window(frames, reference[few], window, n_components)
    n_columns = known.shape[1]
    exponents = _exponents(frames, reference, chosen, few, known)
    inside = inside_span(frames.model, exponents)
    rank, D = frames.model.scaling_.rank, X.shape[1]
    whole = spans_all(frames.model, inside)
    prior = _contradiction(frames.model, X, reference, local_extent(inside, *chosen))
    refuted = prior is not None
    estimate = estimate_dimension(inside, prior, refuted=refuted, whole=whole)
    if not estimate.clear and not refuted:
        prior = _neighbor_dimension(frames, X)
        estimate = estimate_dimension(inside, prior, whole=whole)
        if prior >= rank and rank < D:
            # Noise would not leave a linear span: that is the manifold if neighbours fill it.
            estimate = estimate._replace(dimension=rank, confidence=1.0, resolved=False)
    uniform = not estimate.resolved
    if estimate.dimension == rank < D:
        estimate = estimate._replace(resolved=True, clear=True)  # what leaves the span contracts
    noise_level = _noise_level(frames, reference[few], n_columns, estimate.dimension)
    return Measurement(chosen, n_columns, exponents, estimate, uniform, refuted, prior, noise_level)


def inside_span(model: GenerativeModel, exponents: np.ndarray) -> np.ndarray:
    """Exponents without those of directions that leave the linear span of the data."""
    return exponents[:, : model.scaling_.rank]


def spans_all(model: GenerativeModel, inside: np.ndarray) -> bool:
    """Whether exponents inside the linear span are those of all its directions."""
    return inside.shape[1] == model.scaling_.rank


def spread_rows(X: np.ndarray, n_rows: int) -> np.ndarray:
    """At most `n_rows` rows, evenly spaced: data often come sorted."""
    return X[_spread(len(X), n_rows)]


def _spread(n: int, n_rows: int) -> slice:
    """Of n rows at most `n_rows`, evenly spaced."""
    return slice(None, None, -(-n // n_rows))


def _exponents(frames: FrameReader, X, window, few: slice, known: np.ndarray) -> np.ndarray:
    """Exponents (n, n_columns) at rows X, of which a few are known."""
    exponents = np.empty((len(X), known.shape[1]))
    others = np.ones(len(X), dtype=bool)
    exponents[few], others[few] = known, False
    if others.any():
        exponents[others] = frames.exponents(X[others], known.shape[1], window)
    return exponents


def _choose_window(frames, X, given, n_components) -> tuple[tuple[float, float], np.ndarray]:
    """Window and exponents (n, n_columns) at X: the finest window unless others are clearer."""
    model = frames.model
    low, high = map(float, model.window_ if given is None else given)
    s_max = model.noise_range_[1]
    upper = max(low, _UPPER_END * high)
    windows = [(low, high), *((upper, f * high) for f in _COARSER if f * high <= s_max)]
    # Noise would fill all dimensions and keep the normal directions from contracting.
    noisy = given is None and model.scaling_.rank == model.n_features_in_

    def spectrum(window) -> np.ndarray:
        few = spread_rows(X, _SEARCH_POINTS)
        return frames.exponents(X, _columns_needed(frames, few, window, n_components), window)

    exponents = spectrum(windows[0])
    best, found = clarity(inside_span(model, exponents)), (windows[0], exponents)
    for window in windows[1:]:
        if not noisy or np.median(exponents[:, -1]) < _UNCONTRACTED:
            break
        exponents = spectrum(window)
        largest = clarity(inside_span(model, exponents))
        if largest > max(_CLEARER * best, FULL):
            best, found = largest, (window, exponents)
        elif best >= FULL:
            break
    return found


def _columns_needed(frames, X, window, n_components) -> int:
    """All D columns up to `ALL_COLUMNS`; beyond, doubled until a gap shows well inside.

    Never more than the linear span of the data has dimensions, beyond `ALL_COLUMNS`.
    """
    D, rank = frames.model.n_features_in_, frames.model.scaling_.rank
    if D <= ALL_COLUMNS:
        return D
    if n_components is not None:
        return min(rank, n_components + 1)
    if rank <= ALL_COLUMNS and frames.model.known_span() is not None:
        return rank
    n_columns = _FIRST_COLUMNS
    while n_columns < rank:
        if n_columns > _MAX_COLUMNS:
            return _FIRST_COLUMNS  # nothing to see: do not pay for it at every point
        exponents = inside_span(frames.model, frames.exponents(X, n_columns, window))
        estimate = estimate_dimension(exponents)
        if estimate.resolved and estimate.dimension <= 0.75 * n_columns:
            return n_columns
        n_columns *= 2
    return rank


def _in_units_of_the_model(model: GenerativeModel, X: np.ndarray) -> np.ndarray:
    return model.encode(X).double().cpu().numpy()


def _neighbor_rows(model: GenerativeModel, X: np.ndarray) -> np.ndarray:
    """Rows among which neighbours are sought, in the model's units."""
    n_rows = max(1, min(_NEIGHBOR_ROWS, _NEIGHBOR_ENTRIES // X.shape[1]))
    return _in_units_of_the_model(model, spread_rows(X, n_rows))


def _contradiction(model: GenerativeModel, X, reference, extents) -> float | None:
    """What neighbours see of the reference rows if the extents cannot be."""
    rows = _neighbor_rows(model, X)
    return contradiction(rows, _in_units_of_the_model(model, reference), extents)


def _neighbor_dimension(frames: FrameReader, X: np.ndarray) -> float:
    """Dimension from neighbour distances, calibrated by Gaussian data of the same spread."""
    model = frames.model
    x = _neighbor_rows(model, X)
    gaussian, rank = model.gaussian_, model.scaling_.rank
    rest = np.full(rank, float(gaussian.rest))
    variances = gaussian.variances.double().cpu().numpy()[:rank]
    rng = np.random.RandomState(frames.path_seed)
    reference = rng.normal(size=(len(x), rank))
    reference *= np.sqrt(np.r_[variances, rest[len(variances) :]])
    return calibrated_dimension(x, reference, rng)


def _noise_level(frames: FrameReader, X: np.ndarray, n_columns: int, dimension: int) -> float:
    """Reach of the data in normal directions, at the finest scale of the model."""
    model = frames.model
    s_min, s_max = model.noise_range_
    level = getattr(model, "structure_level_", s_min)  # the score below it is that of there
    window = (level, min(max(10 * s_min, 2 * level), s_max))
    rates = inside_span(model, frames.exponents(X, n_columns, window))[:, dimension:]
    if rates.shape[1] == 0:
        return float("nan")
    return float(local_extent(rates.mean(), *window) * np.exp(model.scaling_.log_unit))


def unclear(measurement: Measurement, model: GenerativeModel) -> str | None:
    """What to warn of where the spectrum does not speak for itself, and what to do; else None."""
    estimate = measurement.estimate
    exponents = inside_span(model, measurement.exponents).mean(axis=0)
    d, k, D = estimate.dimension, len(exponents), model.n_features_in_
    if measurement.refuted:
        problem = (
            "the distances between neighbours contradict the exponents: they see only "
            f"{measurement.neighbor_dimension:.1f} directions where more should reach that far. "
            "The model is under-trained, or the sample follows lines through a larger set; "
            "dimension_ is from the neighbours."
        )
    elif not estimate.resolved:
        problem = (
            f"no direction contracts towards the data (lowest exponent {exponents[-1]:.2f}, a "
            f"normal direction has -1): either the data have at least {k} of {D} dimensions at "
            "these scales or the model is under-trained; dimension_ is from the distances "
            "between neighbours."
        )
    elif not estimate.clear:
        problem = (
            f"no clear gap in the exponents ({estimate.gap:.2f} of 1 at dimension {d}): "
            "either the dimension depends on the scale, see scale_spectrum(X), or the "
            "model is under-trained."
        )
    elif d < k and exponents[d] > _FAR_FROM_FLOOR:
        problem = (
            f"the directions normal to the data contract at a rate of only {exponents[d]:.2f} "
            "(the floor is -1): either the data are noisy at these scales, see noise_level_, "
            "or the model is under-trained."
        )
    elif estimate.confidence < 0.5:
        problem = (
            f"only {estimate.confidence:.0%} of the points have dimension {d}, see "
            "dimension(X): either the data are a mixture of pieces or the model is "
            "under-trained."
        )
    else:
        return None
    return problem + " Raise max_iter of the model, or add data, and see whether it changes."
