"""Laws of the U-Net: rows apart, derivatives as the dense ones, any size of image, own weights."""

import numpy as np
import pytest
import torch
from oracles import Largest

from alignlearn.datasets import make_blob_scenes
from alignlearn.derivatives import pull_back, push_forward
from alignlearn.frames import FrameReader
from alignlearn.models import Diffusion, FlowMatching
from alignlearn.unet import UNet

SHAPES = {
    "digits": (1, 8, 8),
    "even": (1, 16, 16),
    "odd, three channels": (3, 5, 7),
    "a row of pixels": (2, 1, 9),
    "one pixel": (3, 1, 1),
    "MNIST": (1, 28, 28),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(shape, **options):
    """With the layers that start at zero drawn too: a network in the middle of training."""
    net = UNet(shape, generator=generator(), **({"width": 4, "n_blocks": 1} | options)).double()
    with torch.no_grad():
        for p in net.parameters():
            if not p.any():
                p.normal_(0, 0.3, generator=generator(1))
    return net.requires_grad_(False)


def rows(shape, n=3):
    return torch.randn(n, int(np.prod(shape)), dtype=torch.float64, generator=generator(2))


@every_shape
@pytest.mark.parametrize("per_row", [False, True])
def test_a_row_alone_gives_what_it_gives_in_a_batch(shape, per_row):
    net, x = network(shape), rows(shape)
    log_s = torch.tensor([[-3.0], [-1.0], [1.0]]) if per_row else torch.tensor(-2.0)
    together = net(x, log_s.double())
    assert together.shape == x.shape
    for i in range(3):
        alone = net(x[i : i + 1], (log_s[i : i + 1] if per_row else log_s).double())
        torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES.values() if np.prod(shape) < 300])
def test_columns_pushed_and_pulled_are_those_of_the_dense_jacobian(shape):
    """Forward and reverse mode under vmap, against one backward pass a pixel."""
    net, x = network(shape), rows(shape, 2)
    D = x.shape[1]

    def step(y):
        return net(y, torch.tensor(-1.0, dtype=torch.float64))

    J = torch.stack([torch.autograd.functional.jacobian(lambda y: step(y[None])[0], r) for r in x])
    E = torch.randn(4, 2, D, dtype=torch.float64, generator=generator(3))
    torch.testing.assert_close(push_forward(step, x, E), torch.einsum("nij,knj->kni", J, E))
    torch.testing.assert_close(pull_back(step, x, E), torch.einsum("nij,kni->knj", J, E))


@every_shape
def test_every_pixel_sees_every_other(shape):
    net, x = network(shape, n_blocks=3), rows(shape, 1)
    E = torch.zeros(2, 1, x.shape[1], dtype=torch.float64)
    E[0, 0, 0] = E[1, 0, -1] = 1  # the first pixel and the last
    moved = push_forward(lambda y: net(y, torch.tensor(-1.0)), x, E)
    assert (moved != 0).all()


def test_weights_are_the_generators_own_and_float32():
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        first, again = (
            UNet((1, 8, 8), width=4, n_blocks=1, generator=generator()) for _ in range(2)
        )
    finally:
        torch.set_default_dtype(dtype)
    other = UNet((1, 8, 8), width=4, n_blocks=1, generator=generator(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    for (name, p), q in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), name
    assert not torch.equal(first.encode.weight, other.encode.weight)


def test_an_untrained_network_gives_zero_and_every_weight_learns():
    """Zero is the best linear guess; then the gradient reaches layers behind those at zero."""
    net = UNet((1, 8, 8), width=4, n_blocks=2, generator=generator())
    x, log_s = rows((1, 8, 8), 16).float(), torch.linspace(-3, 1, 16)[:, None]
    assert not net(x, log_s).any()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        (net(x, log_s) - x.roll(1, 1)).square().mean().backward()
        optimizer.step()
    assert not [name for name, p in net.named_parameters() if not p.grad.any()]


# ------------------------------------------------------------------------------------- the models

IMAGES = make_blob_scenes(24, n_objects=1, image_size=6, random_state=0).points
MODELS = {
    "Diffusion": lambda **options: Diffusion(
        **({"width": 4, "n_blocks": 1, "max_iter": 2, "batch_size": 8, "random_state": 0} | options)
    ),
    "FlowMatching": lambda **options: FlowMatching(
        **({"width": 4, "n_blocks": 1, "max_iter": 2, "batch_size": 8, "random_state": 0} | options)
    ),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@every_model
def test_models_of_images_have_the_unet_and_one_network(make):
    model = make(image_shape=(1, 6, 6)).fit(IMAGES)
    assert sum(isinstance(module, UNet) for module in model.denoiser_.modules()) == 1
    twin = make(image_shape=(6, 6)).fit(IMAGES)  # one channel need not be said
    np.testing.assert_array_equal(model.sample(2), twin.sample(2))
    assert model.sample(2).shape == (2, 36)


def test_an_ensemble_of_unets_is_the_mean_of_different_ones():
    model = MODELS["Diffusion"](image_shape=(1, 6, 6), n_estimators=2).fit(IMAGES)
    x, s = model.encode(IMAGES[:3]), torch.tensor(0.3)
    first, second = (member(x, s) for member in model.denoiser_.members)
    assert not torch.equal(first, second)
    torch.testing.assert_close(model.denoiser_(x, s), (first + second) / 2)


REFUSED = {
    "another number of pixels": ((1, 6, 5), "30 values, but X has 36 features"),
    "no shape": (36, "must be .C, H, W. or .H, W."),
    "four axes": ((1, 1, 6, 6), "must be .C, H, W."),
    "an empty axis": ((1, 0, 6), "positive integers"),
    "not integers": ((1, 6.0, 6.0), "positive integers"),
}


@every_model
@pytest.mark.parametrize("case", REFUSED)
def test_shapes_that_rows_do_not_have_are_refused(make, case):
    shape, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make(image_shape=shape).fit(IMAGES)


@every_model
def test_a_network_and_an_image_shape_are_refused_together(make):
    with pytest.raises(ValueError, match="network or image_shape, got both"):
        make(image_shape=(1, 6, 6), network=torch.nn.Identity()).fit(IMAGES)


def test_frames_of_colour_images_make_no_square_array():
    """32 x 32 x 3 pixels: D = 3072, and no tensor has a tenth of D^2 numbers."""
    D = 3 * 32 * 32
    model = MODELS["Diffusion"](image_shape=(3, 32, 32), max_iter=1, batch_size=2).fit(np.eye(4, D))
    reader = FrameReader(
        model, None, n_steps=2, n_paths=1, n_oversamples=2, n_iter=1, path_seed=0, n_jobs=None
    )
    with Largest() as largest:
        frame = reader(np.eye(1, D), 3, model.window_)
    assert frame.vectors.shape == (1, D, 3)
    assert D < largest.numbers < D**2 / 10
