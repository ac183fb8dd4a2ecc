"""Factorisations of many small matrices: LAPACK's on a CPU, products of all at once on a GPU.

A GPU's libraries take matrices of more than 32 columns one after the other, and Householder's
reflections too, which leaves nearly all of it idle: `examples/benchmarks/gpu.py` measures it.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

# Columns of a block: two of them are the largest eigenproblem that cuSOLVER solves in batches.
_BLOCK = 16
# Cosines between columns before a sweep of Jacobi's that is the last one: it squares them. About
# six sweeps come there.
_ORTHOGONAL, _MAX_SWEEPS = 1e-5, 20
# Smallest sine of a column's angle to those before it with which Cholesky's QR, twice, is accurate.
_INDEPENDENT = 1e-6


def qr(E: Tensor) -> tuple[Tensor, Tensor]:
    """QR with a positive diagonal of matrices (n, D, k), k <= D: Q (n, D, k), R (n, k, k).

    Householder's. On a GPU Cholesky's in float64, twice (Yamamoto et al. 2015), if the columns are
    independent enough for it: in float32 it has no factor where a step took 7 e-folds or more.
    """
    if E.device.type == "cuda":
        factors = cholesky_qr(E)
        if factors is not None:
            return factors
    Q, R = torch.linalg.qr(E)
    sign = torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(Q.dtype)
    return Q * sign[:, None, :], sign[:, :, None] * R


def cholesky_qr(E: Tensor) -> tuple[Tensor, Tensor] | None:
    """QR of matrices (n, D, k) by Cholesky factors of ``E^T E``; None where one has no good one."""
    Q = E.double()
    lengths = Q.norm(dim=1)
    R, good = None, torch.ones((), dtype=torch.bool, device=E.device)
    for _ in range(2):
        L, info = torch.linalg.cholesky_ex(Q.mT @ Q)
        if R is None:
            sines = L.diagonal(dim1=-2, dim2=-1) / lengths
            good = (info == 0).all() & (sines > _INDEPENDENT).all()
        R = L.mT if R is None else L.mT @ R
        Q = torch.linalg.solve_triangular(L, Q.mT, upper=False).mT
    return (Q.to(E), R.to(E)) if good else None


def _taken_one_by_one(A: Tensor) -> bool:
    """Whether PyTorch would take one matrix (n, D, m) after the other."""
    return A.device.type == "cuda" and A.shape[-1] > 2 * _BLOCK


def left_singular(A: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors (n, D, m) and values (n, m), descending, of A (n, D, m) with m <= D."""
    found = jacobi(A) if _taken_one_by_one(A) else None
    if found is not None:
        return found
    U, S, _ = torch.linalg.svd(A, full_matrices=False)
    return U, S


def principal_axes(M: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors (n, D, D) and values (n, D), descending, of M (n, D, D), none negative."""
    found = jacobi_axes(M) if _taken_one_by_one(M) else None
    if found is not None:
        return found
    values, vectors = torch.linalg.eigh(M)
    return vectors.flip(-1), values.flip(-1).clamp_min(0.0)


def outer_axes(G: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k leading eigenvectors (n, D, k) and values (n, k) of ``G G^T``, G (n, D, m), m < D."""
    found = outer_axes_by_jacobi(G, k) if _taken_one_by_one(G) else None
    if found is not None:
        return found
    U, S = left_singular(G)
    return U[..., :k], S[:, :k] ** 2


def tournament(n_players: int) -> list[list[int]]:
    """Rounds in which all of an even number of players meet: pairs one after the other, ascending.

    The circle method: the first stays, the others move on.
    """
    first, *others = range(n_players)
    rounds = []
    for _ in others:
        seats = [first, *others]
        meeting = zip(seats[: n_players // 2], reversed(seats), strict=False)
        rounds.append([player for pair in meeting for player in sorted(pair)])
        others = others[-1:] + others[:-1]
    return rounds


def jacobi(A: Tensor) -> tuple[Tensor, Tensor] | None:
    """`left_singular` by Hestenes' one-sided Jacobi rotations, of blocks of columns.

    All pairs of blocks are rotated in turn, half as many at once as there are blocks, each by the
    eigenvectors of the products of its columns, the longest to the first block, until all columns
    are orthogonal (Hestenes 1958; Golub & Van Loan, Matrix Computations, sections 8.5.6 and 8.6.3).
    None if they do not become so.
    """
    n, D, m = A.shape
    pairs = -(-m // (2 * _BLOCK))
    width = 2 * _BLOCK * pairs
    rounds = tournament(2 * pairs)
    moves = [
        torch.tensor([now.index(block) for block in after], device=A.device)
        for now, after in pairwise([*rounds, rounds[0]])
    ]

    def seated(B: Tensor, order) -> Tensor:
        blocks = B.reshape(n, 2 * pairs, _BLOCK, D)[:, order]
        return blocks.reshape(n, pairs, 2 * _BLOCK, D)

    # What rounding leaves of a column that is none, as those that fill up the last block.
    info = torch.finfo(A.dtype)
    zero = m * info.eps * A.norm(dim=(1, 2))[:, None, None] + info.tiny
    B = seated(torch.nn.functional.pad(A, (0, width - m)).mT, rounds[0])
    for _ in range(_MAX_SWEEPS):
        largest = A.new_zeros(())
        for move in moves:
            G = B @ B.mT
            size = G.diagonal(dim1=-2, dim2=-1).sqrt()
            size = torch.where(size < zero, math.inf, size)  # orthogonal to all
            cosines = G / (size[..., :, None] * size[..., None, :])
            cosines.diagonal(dim1=-2, dim2=-1).zero_()
            largest = torch.maximum(largest, cosines.abs().amax())
            B = seated(torch.linalg.eigh(G).eigenvectors.flip(-1).mT @ B, move)
        if largest < _ORTHOGONAL:
            break
    else:
        return None
    S, order = B.reshape(n, width, D).norm(dim=-1).sort(descending=True)
    columns = B.reshape(n, width, D).gather(1, order[..., None].expand(n, width, D))
    return qr(columns[:, :m].mT)[0], S[:, :m]


def jacobi_axes(M: Tensor) -> tuple[Tensor, Tensor] | None:
    """`principal_axes` by `jacobi`, of ``M + |M| I``, which has the same eigenvectors.

    Of M itself the short columns, below 1e-6 of the longest, might never become orthogonal: they
    are turned together with long ones, whose rounding is as large as they are.
    """
    size = M.norm(dim=(1, 2))[:, None]
    found = jacobi(M + torch.diag_embed(size.expand(M.shape[:-1])))
    return None if found is None else (found[0], (found[1] - size).clamp_min(0.0))


def outer_axes_by_jacobi(G: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    """`outer_axes` by way of the small matrix ``G^T G``, which has the same values."""
    found = jacobi_axes(G.mT @ G)
    if found is None:
        return None
    vectors, values = found[0][..., :k], found[1][:, :k]
    least = torch.finfo(G.dtype).eps * values[:, :1] + torch.finfo(G.dtype).tiny
    return qr(G @ (vectors / torch.maximum(values, least).sqrt()[:, None]))[0], values
