"""Checks of parameters that several estimators have; all name the parameter and what came."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_scalar


def check_integers(estimator, *names: str, min_val: int | None = 1, optional: bool = False) -> None:
    """Refuse parameters that are no integers from `min_val`; None passes where it is `optional`.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind, or too small.
    """
    for name in names:
        value = getattr(estimator, name)
        if not (optional and value is None):
            check_scalar(value, name, Integral, min_val=min_val)


def check_window(window) -> None:
    """Refuse what is no pair of noise levels in ascending order.

    Raises
    ------
    TypeError
        If it is no pair of numbers.
    ValueError
        If not ``0 < s_min < s_max``.
    """
    pair = isinstance(window, tuple | list | np.ndarray) and len(window) == 2
    if not pair or not all(isinstance(s, Real) for s in window):
        raise TypeError(f"window must be a pair of noise levels (s_min, s_max), got {window!r}.")
    if not 0 < window[0] < window[1]:
        raise ValueError(f"window must be 0 < s_min < s_max, got {window!r}.")


def check_noise_range(s_min, s_max, window=None) -> None:
    """Refuse what is no range of noise levels, or a window outside it.

    Raises
    ------
    TypeError
        If a noise level is not a number, or the window no pair of them.
    ValueError
        If not ``0 < s_min < s_max`` or not ``s_min <= window[0] < window[1] <= s_max``.
    """
    for name, s in (("s_min", s_min), ("s_max", s_max)):
        if not isinstance(s, Real):
            raise TypeError(f"{name} must be a number, got {s!r}.")
    if window is not None:
        check_window(window)
    if not 0 < s_min < s_max < np.inf:
        raise ValueError(f"expected 0 < s_min < s_max, got s_min={s_min!r}, s_max={s_max!r}.")
    if window is not None and not (s_min <= window[0] and window[1] <= s_max):
        raise ValueError(f"window must lie within [{s_min}, {s_max}], got {window!r}.")
