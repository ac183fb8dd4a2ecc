"""Gated against plain residual networks at the same budget: what the choice of network is worth.

Same steps, batches, learning rates, noise embedding and number of weights; only the units differ.
All are handed to `Diffusion`, so that none has what it does for its default network: the linear
span, the sphere near which rows lie, a mixture's closed form. The plain networks also get a second
learning rate, the better one counts in hindsight. Run

    python examples/benchmarks/networks.py --workers 2
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from common import (
    CASES,
    N_QUERY,
    Job,
    Store,
    fit_timed,
    frame_at,
    parse_args,
    run_jobs,
    share_right,
)
from torch import Tensor, nn

from alignlearn import LyapunovManifold
from alignlearn.models import Diffusion
from alignlearn.models.diffusion import default_width
from alignlearn.networks import GatedNetwork


class PlainNetwork(nn.Module):
    """Residual SiLU network: blocks ``h + W_o silu(W n(h) + V e)``, n the identity or ``h / rms``.

    The hidden width is the one that gives as many weights as a `GatedNetwork` of the same width.
    """

    frequencies: Tensor

    def __init__(
        self, n_features: int, *, width: int, n_blocks: int, normalize: bool, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        gated = GatedNetwork(n_features, width=width, n_blocks=n_blocks, generator=generator)
        self.register_buffer("frequencies", gated.frequencies.clone())
        n_noise = 2 * len(gated.frequencies)
        ends = width * (2 * n_features + n_noise + 2) + n_features
        per_hidden_unit = n_blocks * (2 * width + n_noise + 2)
        n_weights = sum(p.numel() for p in gated.parameters())
        hidden = round((n_weights - ends - n_blocks * width) / per_hidden_unit)
        self.normalize = normalize
        self.encode = nn.Linear(n_features, width)
        self.encode_noise = nn.Linear(n_noise, width)
        self.inner = nn.ModuleList(nn.Linear(width, hidden) for _ in range(n_blocks))
        self.noise = nn.ModuleList(nn.Linear(n_noise, hidden) for _ in range(n_blocks))
        self.outer = nn.ModuleList(nn.Linear(hidden, width) for _ in range(n_blocks))
        self.decode = nn.Linear(width, n_features)
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    bound = layer.in_features**-0.5
                    layer.weight.uniform_(-bound, bound, generator=generator)
                    layer.bias.uniform_(-bound, bound, generator=generator)
            for layer in [*self.outer, self.decode]:  # as in GatedNetwork: blocks start at zero
                layer.weight.zero_()
                layer.bias.zero_()

    def _norm(self, h: Tensor) -> Tensor:
        return h * torch.rsqrt((h * h).mean(-1, keepdim=True) + 1e-6) if self.normalize else h

    def forward(self, x: Tensor, log_s: Tensor) -> Tensor:
        """Map rows ``x (n, D)`` at log noise ``log_s``, () or (n, 1), to rows (n, D)."""
        phase = log_s.reshape(-1, 1) * self.frequencies
        e = torch.cat([phase.sin(), phase.cos()], -1)
        h = nn.functional.silu(self.encode(x) + self.encode_noise(e))
        for inner, noise, outer in zip(self.inner, self.noise, self.outer, strict=True):
            h = h + outer(nn.functional.silu(inner(self._norm(h)) + noise(e)))
        return self.decode(self._norm(h))


NETWORKS = ("gated", "plain", "plain, normalised")
LEARNING_RATES = {"gated": (1,), "plain": (1, 1 / 3), "plain, normalised": (1, 1 / 3)}


def manifold_with(network: str, factor: float, case, seed: int, base: Diffusion):
    """The default estimator with one of `NETWORKS` and `factor` times the learning rate."""
    model = Diffusion(**base.get_params(deep=False))
    model.set_params(learning_rate=base.learning_rate * factor)
    D = case.make(1, random_state=seed).points.shape[1]
    size = {
        "width": default_width(case.n, D) if base.width is None else base.width,
        "n_blocks": base.n_blocks,
    }
    if network == "gated":
        units = GatedNetwork(D, **size, generator=torch.Generator().manual_seed(seed))
    else:
        units = PlainNetwork(D, **size, normalize=network == "plain, normalised", seed=seed)
    return LyapunovManifold(model=model.set_params(network=units))


def measure(job: Job) -> dict:
    """Training state, error and share of right dimensions at training points."""
    sample = job.case.sample(job.seed)
    m, result = fit_timed(job.manifold, sample.points, job.seed)
    n_query = min(N_QUERY, job.case.n)
    rows = np.sort(np.random.default_rng(job.seed).permutation(job.case.n)[:n_query])
    frame, d = frame_at(m, sample.points[rows]), sample.dimension
    result["lyapunov"] = job.case.error(frame.vectors[..., :d], job.case.truth(sample)[rows])
    result["right"] = share_right(frame, d)
    return result


def make_jobs(cases, seeds, base: Diffusion) -> list[Job]:
    """One job for every network and learning rate."""
    jobs = []
    for seed in seeds:
        for case in cases:
            for network in NETWORKS:
                for factor in LEARNING_RATES[network]:
                    manifold = manifold_with(network, factor, case, seed, base)
                    rate = float(f"{manifold.model.learning_rate:.2g}")
                    options = {"network": network, "learning_rate": rate}
                    jobs.append(Job(case, seed, manifold, options))
    return jobs


def main(argv=None) -> int:
    args = parse_args(__doc__.splitlines()[0], ("sphere10", "random10"), 3, argv)
    base = args.manifold.model or Diffusion()
    jobs = make_jobs([CASES[name] for name in args.cases], range(args.seeds), base)
    return run_jobs(measure, jobs, Store("networks", args.results), workers=args.workers)


if __name__ == "__main__":
    sys.exit(main())
