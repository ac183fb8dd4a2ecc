"""The embeddings of scikit-learn and UMAP, by name, all called in the same way."""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from importlib.util import find_spec

import numpy as np
from sklearn.manifold import Isomap, LocallyLinearEmbedding


@lru_cache(1)
def compile_umap() -> None:
    """Let numba compile UMAP in this process, so that no fit is charged for it."""
    from umap import UMAP

    X = np.random.default_rng(0).standard_normal((60, 3))
    UMAP(n_neighbors=5, random_state=0).fit(X).transform(X[:10])


def make_umap(n_neighbors: int, n_components: int, random_state: int):
    """UMAP, imported when it is needed."""
    from umap import UMAP

    return UMAP(n_neighbors=n_neighbors, n_components=n_components, random_state=random_state)


def make_isomap(n_neighbors: int, n_components: int, random_state: int):
    """Isomap, which has no seed."""
    return Isomap(n_neighbors=n_neighbors, n_components=n_components)


class LLE(LocallyLinearEmbedding):
    """Locally linear embedding; where its sparse eigensolver fails, the dense one as it advises."""

    def fit_transform(self, X, y=None):
        """Embedding of X."""
        try:
            return super().fit_transform(X)
        except ValueError as error:
            if "ARPACK" not in str(error):
                raise
            return self.set_params(eigen_solver="dense").fit_transform(X)


PEERS = {
    "Isomap": make_isomap,
    "LLE": partial(LLE, method="standard"),
    "modified LLE": partial(LLE, method="modified"),
    "Hessian LLE": partial(LLE, method="hessian"),
    "LTSA": partial(LLE, method="ltsa"),
    "UMAP": make_umap,
}


def available(peers) -> list[str]:
    """The peers that are installed; says which are not."""
    if find_spec("umap") is None and "UMAP" in peers:
        print("no UMAP here: pip install 'alignlearn[benchmark]'", file=sys.stderr)
        return [peer for peer in peers if peer != "UMAP"]
    return list(peers)
