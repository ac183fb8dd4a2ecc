"""What a GPU factorises with, on any device: beside LAPACK's factors of the same matrices."""

import math

import pytest
import torch

from alignlearn._linalg import (
    cholesky_qr,
    jacobi,
    jacobi_axes,
    left_singular,
    outer_axes,
    outer_axes_by_jacobi,
    principal_axes,
    qr,
    tournament,
)


def matrices(singular, n=3, n_rows=None, generator=None):
    """Matrices (n, n_rows, k) with given singular values (k,), float64."""
    k = len(singular)
    n_rows = n_rows or k
    options = {"dtype": torch.float64, "generator": generator}
    U = torch.linalg.qr(torch.randn(n, n_rows, k, **options)).Q
    return U * singular @ torch.linalg.qr(torch.randn(n, k, k, **options)).Q


SPECTRA = {
    "even": torch.linspace(2, 1, 50),
    "over 14 e-folds": torch.linspace(0, -14, 40).exp(),
    "two values, each many times": torch.tensor([1.0] * 20 + [0.01] * 25),
    "one block": torch.linspace(1, 0.1, 7),
    "many blocks": torch.linspace(0, -7, 129).exp(),
}


@pytest.mark.parametrize("singular", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("tall", [False, True])
def test_jacobis_vectors_and_values_are_the_singular_ones(singular, tall, generator):
    singular = singular.double()
    k = len(singular)
    A = matrices(singular, n_rows=2 * k if tall else k, generator=generator)
    U, S = jacobi(A)
    torch.testing.assert_close(S, singular.expand(3, k), rtol=1e-8, atol=0)
    torch.testing.assert_close(U.mT @ U, torch.eye(k).double().expand(3, k, k), rtol=0, atol=1e-13)
    # Whatever basis of a repeated value's space was found: A A^T = U S^2 U^T.
    torch.testing.assert_close((U * S[:, None] ** 2) @ U.mT, A @ A.mT, rtol=0, atol=1e-10)


def test_jacobi_completes_the_basis_where_columns_depend_on_each_other(generator):
    singular = torch.cat([torch.ones(30), torch.zeros(20)]).double()
    U, S = jacobi(matrices(singular, generator=generator))
    torch.testing.assert_close(S, singular.expand(3, 50), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        U.mT @ U, torch.eye(50).double().expand(3, 50, 50), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("rest", [1e-3, 1e-6, 1e-9, 0.0])
def test_axes_by_jacobi_where_most_values_are_small(rest, generator):
    """Jacobi's rotations of the matrix itself do not end there."""
    values = torch.cat([torch.linspace(1, 0.5, 6), rest * torch.linspace(1, 0.5, 40)]).double()
    A = matrices(values.sqrt(), generator=generator)
    M = A @ A.mT
    U, found = jacobi_axes(M)
    torch.testing.assert_close(found, values.expand(3, 46), rtol=0, atol=1e-8)
    torch.testing.assert_close((U * found[:, None]) @ U.mT, M, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        U.mT @ U, torch.eye(46).double().expand(3, 46, 46), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("way", [outer_axes, outer_axes_by_jacobi])
@pytest.mark.parametrize("rest", [1.0, 1e-6, 0.0])
def test_leading_axes_of_an_outer_product(way, rest, generator):
    singular = torch.cat([torch.linspace(1, 0.5, 6), rest * torch.linspace(0.4, 0.1, 40)])
    G = matrices(singular.double(), n_rows=90, generator=generator)
    U, values = way(G, 10)
    expected = singular[:10].double().square().expand(3, 10)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        U.mT @ U, torch.eye(10).double().expand(3, 10, 10), rtol=0, atol=1e-13
    )
    leading = U[..., :6]
    torch.testing.assert_close(
        G @ (G.mT @ leading), leading * values[:, None, :6], rtol=0, atol=1e-8
    )


def test_jacobi_gives_up_on_what_is_not_finite():
    A = torch.eye(40, dtype=torch.float64).repeat(2, 1, 1)
    A[0, 1, 1] = math.nan
    assert jacobi(A) is None


@pytest.mark.parametrize("n_players", [2, 4, 6, 10])
def test_all_players_meet_once_and_all_play_in_every_round(n_players):
    rounds = tournament(n_players)
    pairs = [(r[i], r[i + 1]) for r in rounds for i in range(0, n_players, 2)]
    assert sorted(pairs) == sorted((a, b) for b in range(n_players) for a in range(b))
    assert all(sorted(r) == list(range(n_players)) for r in rounds)
    assert all(a < b for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_choleskys_factors_are_householders(dtype, generator):
    E = torch.randn(4, 30, 12, generator=generator, dtype=dtype)
    for found, expected in zip(cholesky_qr(E), qr(E), strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 1e-9])
def test_choleskys_qr_refuses_columns_that_nearly_depend_on_each_other(angle, generator):
    E = torch.randn(4, 30, 12, generator=generator, dtype=torch.float64)
    E[2, :, 7] = E[2, :, 3] + angle * E[2, :, 7]
    assert cholesky_qr(E) is None


def test_vectors_and_axes_are_lapacks_on_a_cpu(generator):
    A = matrices(torch.linspace(2, 1, 40).double(), generator=generator)
    U, S = left_singular(A)
    expected = torch.linalg.svd(A)
    assert torch.equal(U, expected.U) and torch.equal(S, expected.S)
    U, values = principal_axes(A @ A.mT)
    torch.testing.assert_close(values, S**2)
    torch.testing.assert_close(A @ A.mT @ U, U * values[:, None], rtol=0, atol=1e-12)
