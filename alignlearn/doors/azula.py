"""Denoisers of azula."""

from __future__ import annotations

from torch import Tensor

from alignlearn.doors.edm import from_edm
from alignlearn.doors.wrapped import Wrapped, common_time, ends_of_ratio, like_rows, time_of_ratio


class AzulaDenoiser(Wrapped):
    """``(x, sigma) -> mean`` of a denoiser ``(x_t, t) -> posterior`` with its own schedule."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Rows x (n, ...) in variance-exploding coordinates, sigma (n,)."""
        t = time_of_ratio(self.network.schedule, common_time(sigma))
        alpha, _ = self.network.schedule(t)
        return self.network(like_rows(alpha, x) * x, t.to(x)).mean


def from_azula(denoiser, *, shape=None, **options):
    """Model of a denoiser of azula: ``denoiser(x_t, t).mean`` and ``denoiser.schedule``.

    Parameters
    ----------
    denoiser : azula.denoise.Denoiser
        Whatever its preconditioning and schedule.
    shape : tuple of int, optional
        Of a row as the denoiser takes it, such as (channels, height, width).
    **options
        Further parameters of `PretrainedModel`, such as ``shift`` and ``scale``.

    Returns
    -------
    model : PretrainedModel
        Not fitted.

    Raises
    ------
    TypeError
        If it has no schedule.
    """
    if not callable(getattr(denoiser, "schedule", None)):
        raise TypeError(
            f"denoiser must have a schedule t -> (alpha, sigma), as azula's have, got {denoiser!r}."
        )
    low, high = ends_of_ratio(denoiser.schedule)
    return from_edm(AzulaDenoiser(denoiser), sigma_min=low, sigma_max=high, shape=shape, **options)
