"""Networks of other libraries behind the call ``(x, tau)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Wrapped:
    """A network of another library; no module, so that `networks_of` finds the network's own.

    Parameters
    ----------
    network : callable
    """

    def __init__(self, network) -> None:
        self.network = network

    def __call__(self, x: Tensor, tau: Tensor) -> Tensor:
        """Rows x (n, ...), times tau (n,)."""
        return self.network(x, tau)


def common_time(tau: Tensor) -> Tensor:
    """Time () if all rows share one, as `NetworkDenoiser` expands it, else (n,)."""
    return tau[0] if tau.stride(0) == 0 or len(tau) == 1 else tau


def like_rows(values: Tensor, x: Tensor) -> Tensor:
    """One value per row (n,), shaped to multiply the rows of x (n, ...)."""
    return values.to(x).reshape(-1, *[1] * (x.ndim - 1))


def time_of_ratio(
    scales: Callable[[Tensor], tuple[Tensor, Tensor]], ratio: Tensor, n_halvings: int = 60
) -> Tensor:
    """Times in [0, 1] at which ``sigma / alpha`` of increasing scales has given values: bisection.

    Parameters
    ----------
    scales : callable t -> (alpha, sigma)
        Of float64 tensors of any shape.
    ratio : Tensor
        Values of ``sigma / alpha``; outside its range the nearest end is taken.
    n_halvings : int, default=60
        As many as float64 has digits.

    Returns
    -------
    Tensor
        Of the shape of `ratio`, float64.
    """
    log_ratio = ratio.detach().double().log()
    low, high = torch.zeros_like(log_ratio), torch.ones_like(log_ratio)
    for _ in range(n_halvings):
        middle = (low + high) / 2
        alpha, sigma = scales(middle)
        above = sigma.log() - alpha.log() > log_ratio
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def ends_of_ratio(scales: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Smallest and largest ``sigma / alpha``, at t = 0 and t = 1, within what float32 squares.

    Raises
    ------
    ValueError
        If the ratio does not increase from t = 0 to t = 1.
    """
    alpha, sigma = scales(torch.tensor([0.0, 1.0], dtype=torch.float64))
    low, high = (sigma / alpha).tolist()
    low, high = max(low, 1e-6), min(high, 1e6)
    if not low < high:
        raise ValueError(
            f"expected a schedule with data at t = 0 and noise at t = 1, got sigma / alpha from "
            f"{low:.3g} to {high:.3g}."
        )
    return low, high
