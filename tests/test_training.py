"""Laws of the one optimisation loop, seen through `Diffusion`."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from tables import MODELS
from torch import nn

from alignlearn._arrays import torch_threads
from alignlearn.datasets import make_torus
from alignlearn.denoising import (
    draw_noise_levels,
)
from alignlearn.models import Diffusion
from alignlearn.models import diffusion as diffusion_module
from alignlearn.models import flow_matching as flows
from alignlearn.models.denoisers import SmoothDenoiser
from alignlearn.persistence import load, save

RANGE = (0.01, 5.0)


@pytest.fixture(scope="module")
def X():
    return make_torus(200, random_state=0).points


class Spy(nn.Module):
    """One linear layer; calls `event` before the training step of number `at`."""

    def __init__(self, event=None, at=math.inf):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.event, self.at, self.count = event, at, 0

    def forward(self, x, log_s):
        in_training = torch.is_grad_enabled() and self.layer.weight.requires_grad
        self.count += in_training
        if in_training and self.count >= self.at:
            self.event(self)
        return self.layer(x)


def spied(event=None, at=math.inf):
    """A model trained to the end unless something happens."""
    network = Spy(event, at)
    options = {"max_iter": 80, "n_iter_no_change": 1000, "random_state": 0}
    return Diffusion(network=network, n_estimators=1, **options)


def interrupt(network):
    raise KeyboardInterrupt


def explode(network):
    with torch.no_grad():
        network.layer.weight.fill_(math.nan)


@pytest.mark.parametrize("at", [1, 2, 30, 77])
def test_interrupt_keeps_the_best_model_and_warns(at, X):
    model = spied(interrupt, at)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.fit(X)
    assert model.n_iter_ < at
    assert np.isfinite(model.sample(5)).all() and np.isfinite(model.score_samples(X[:5])).all()


def test_interrupted_weights_are_those_of_the_best_step(X):
    """Up to the interrupt both runs are one; the whole run's curve names the best step so far."""
    at = 60
    whole = spied().fit(X)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        cut = spied(interrupt, at).fit(X)
    losses = whole.histories_[0].held_out_loss[: len(cut.histories_[0].steps)]
    assert cut.histories_[0].held_out_loss == losses and len(losses) > 2
    assert cut.loss_ == min(losses)
    assert cut.histories_[0].best_step == cut.histories_[0].steps[int(np.argmin(losses))]


def test_steps_after_the_best_one_leave_no_trace_in_the_weights(X):
    """A run to the end equals one that is interrupted right after its best step."""
    whole = spied().set_params(learning_rate=0.3).fit(X)
    best = whole.histories_[0].best_step
    assert 0 < best < 80, "the case must have a best step before the last"
    cut = spied(interrupt, best + 1).set_params(learning_rate=0.3)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        cut.fit(X)
    np.testing.assert_array_equal(cut.sample(9), whole.sample(9))


@pytest.mark.parametrize("at", [1, 5, 40])
def test_loss_that_is_not_finite_is_an_error_with_advice(at, X):
    model = spied(explode, at)
    with pytest.raises(FloatingPointError, match="not finite.*learning_rate"):
        model.fit(X)
    assert not hasattr(model, "denoiser_")


def test_huge_learning_rate_ends_in_an_error_or_a_finite_model(X):
    model = MODELS["Diffusion"](learning_rate=1e30, max_iter=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model.fit(X)
        except FloatingPointError as error:
            assert "learning_rate" in str(error)
        else:
            assert np.isfinite(model.sample(5)).all()


def test_weights_kept_are_those_of_the_lowest_held_out_loss(X):
    history = MODELS["Diffusion"](max_iter=60, learning_rate=0.05).fit(X).histories_[0]
    best = int(np.argmin(history.held_out_loss))
    assert history.best_step == history.steps[best]
    assert history.best_loss == history.held_out_loss[best]


def test_training_lowers_the_loss_below_that_of_no_structure(X):
    assert (
        MODELS["Diffusion"](max_iter=400, width=32, n_blocks=2, n_estimators=1).fit(X).loss_ < 0.95
    )


# --- noise hides the scales below its size ------------------------------------------------------


def test_below_the_level_the_score_is_that_of_the_level(generator):
    variances = torch.tensor([1.0, 0.04, 0.01])
    x = torch.randn((50, 3), generator=generator) * variances.sqrt()

    def denoise(y, s):
        return y * variances / (variances + s * s)

    def score(denoiser, s):
        return (denoiser(x, s) - x) / s**2

    smooth = SmoothDenoiser(denoise, 0.1)
    level, below = torch.tensor(0.1), torch.tensor([0.01, 0.03, 0.099])
    for s in below:
        torch.testing.assert_close(score(smooth, s), score(denoise, level), rtol=2e-3, atol=1e-3)
    for s in (0.1, 0.3, 5.0):
        torch.testing.assert_close(smooth(x, torch.tensor(s)), denoise(x, torch.tensor(s)))
    rows = torch.linspace(0.02, 0.5, len(x))[:, None]  # a level for each row
    expected = torch.cat([smooth(x[i : i + 1], s) for i, s in enumerate(rows)])
    torch.testing.assert_close(smooth(x, rows), expected)


def test_networks_learn_the_levels_with_structure_only(X, monkeypatch, tmp_path):
    """A learning rate that ruins the weights makes the first network go wrong after its best."""
    asked, seen = [], []

    def level_of(held_out, denoise, noise_range):
        asked.append(noise_range)
        return 0.1

    def draw(n, noise_range, *args, **options):
        seen.append(noise_range)
        return draw_noise_levels(n, noise_range, *args, **options)

    monkeypatch.setattr(diffusion_module, "structure_level", level_of)
    monkeypatch.setattr("alignlearn.denoising.draw_noise_levels", draw)
    options = {"max_iter": 80, "learning_rate": 0.5, "n_iter_no_change": 1}
    model = MODELS["Diffusion"](n_estimators=2, **options).fit(X)
    s_max = model.noise_range_[1]
    assert asked == [(0.01, s_max)] and model.structure_level_ == 0.1
    assert model.noise_range_[0] == 0.01 and isinstance(model.denoiser_, SmoothDenoiser)
    assert len(model.histories_) == len(model.denoiser_.denoiser.members) >= 2  # and the pilot
    first = seen.index((0.1, s_max))
    assert set(seen[:first]) == {(0.01, s_max)} and set(seen[first:]) == {(0.1, s_max)}
    save(model, tmp_path / "model")
    again, y, s = load(tmp_path / "model"), model.encode(X[:5]), torch.tensor(0.03)
    assert again.structure_level_ == 0.1
    torch.testing.assert_close(again.denoiser_(y, s), model.denoiser_(y, s), rtol=0, atol=0)


@pytest.fixture
def noise_found(monkeypatch):
    """Noise wherever it is looked for; default networks have width 8, small ones 4."""
    monkeypatch.setattr(diffusion_module, "structure_level", lambda *args: 0.1)
    monkeypatch.setattr(diffusion_module, "default_width", lambda n_samples, n_features: 8)
    monkeypatch.setattr(diffusion_module, "SMALL_WIDTH", 4)


@pytest.mark.usefixtures("noise_found")
@pytest.mark.parametrize(("given", "expected"), [(None, 4), (6, 6)])
def test_default_networks_are_small_where_the_first_one_goes_wrong_early(given, expected, X):
    options = {"max_iter": 80, "learning_rate": 0.5, "n_iter_no_change": 1}
    model = MODELS["Diffusion"](width=given, n_estimators=None, **options).fit(X)
    members = model.denoiser_.denoiser.members
    assert {member.network.decode.in_features for member in members} == {expected}
    assert len(members) >= (2 if given else 3)


@pytest.mark.usefixtures("noise_found")
def test_default_networks_stay_large_where_the_first_one_goes_wrong_late(X, monkeypatch):
    train = diffusion_module.train

    def late(*args, **options):  # as if the best had come in the last but one of two steps
        history = train(*args, **options)
        history.best_step = history.steps[-1] - 1
        return history

    monkeypatch.setattr(diffusion_module, "train", late)
    model = MODELS["Diffusion"](width=None, n_estimators=None, max_iter=8).fit(X)
    members = model.denoiser_.denoiser.members
    assert {member.network.decode.in_features for member in members} == {8}


@pytest.mark.parametrize(
    "options",
    [
        {"n_estimators": 2, "max_iter": 1},  # best at the end
        {"n_estimators": 1, "max_iter": 80, "learning_rate": 0.5, "n_iter_no_change": 1},
    ],
)
def test_a_network_best_at_the_end_or_alone_is_not_asked_for_a_level(options, X, monkeypatch):
    monkeypatch.setattr(diffusion_module, "structure_level", lambda *args: pytest.fail("asked"))
    model = MODELS["Diffusion"](**options).fit(X)
    first = model.histories_[0]
    assert (first.best_step == first.steps[-1]) == (options["n_estimators"] == 2)
    assert model.structure_level_ == model.noise_range_[0]
    assert not isinstance(model.denoiser_, SmoothDenoiser)


# --- several networks -------------------------------------------------------------------------


def test_denoiser_is_the_mean_of_its_networks(X):
    model = MODELS["Diffusion"](n_estimators=3).fit(X)
    members, y, s = model.denoiser_.members, model.encode(X[:5]), torch.tensor(0.3)
    assert len(members) == len(model.histories_) == 3
    expected = torch.stack([member(y, s) for member in members]).mean(0)
    torch.testing.assert_close(model.denoiser_(y, s), expected)
    assert model.loss_ == pytest.approx(np.mean([h.best_loss for h in model.histories_]))
    assert not torch.equal(members[0](y, s), members[1](y, s))


def test_networks_that_stop_early_leave_their_steps_to_others(X):
    """A learning rate that ruins the weights ends a network after one evaluation."""
    model = MODELS["Diffusion"](n_estimators=2, max_iter=80, learning_rate=0.5, n_iter_no_change=1)
    steps = [history.steps[-1] for history in model.fit(X).histories_]
    assert len(steps) == 4 and sum(steps) < 2 * 80


def test_one_estimator_is_one_network(X):
    model = MODELS["Diffusion"](n_estimators=1, max_iter=80, learning_rate=0.5, n_iter_no_change=1)
    assert len(model.fit(X).histories_) == 1


def test_every_network_holds_out_other_rows(X):
    model = MODELS["Diffusion"](validation_fraction=0.25)
    order = torch.randperm(40)
    splits = [model._split(order, i) for i in range(4)]
    for kept, held in splits:
        assert sorted(torch.cat([kept, held]).tolist()) == list(range(40)) and len(held) == 10
    assert sorted(torch.cat([held for _, held in splits]).tolist()) == list(range(40))


def test_interrupt_in_the_second_network_keeps_the_first(X):
    """Each network is a copy that counts its own steps: the second first step interrupts."""
    steps = []

    def interrupt_second(network):
        steps.append(network.count)
        if steps.count(1) == 2:
            raise KeyboardInterrupt

    network = Spy(interrupt_second, 1)
    model = Diffusion(network=network, n_estimators=2, max_iter=20, random_state=0)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.fit(X)
    assert len(model.histories_) == 1 and model.n_iter_ == 20
    assert np.isfinite(model.sample(3)).all()


def test_parameters_of_any_layout_train_alike_and_share_no_memory(X):
    """A transposed weight is not made part of one vector, with the same steps."""
    models = []
    for layout in (lambda w: w, lambda w: w.T.contiguous().T):
        network = Spy()
        network.layer.weight.data = layout(network.layer.weight.data)
        model = Diffusion(network=network, n_estimators=1, max_iter=60, random_state=0).fit(X)
        models.append(model)
    alike, other = (dict(model.denoiser_.named_parameters()) for model in models)
    for name, value in alike.items():
        assert value.abs().max() > 0, "nothing was learned"
        torch.testing.assert_close(value, other[name])
    assert len({p.untyped_storage().data_ptr() for p in alike.values()}) == len(alike)


def test_parameter_that_the_loss_does_not_see_stays_zero(X):
    network = Spy()
    network.idle = nn.Parameter(torch.zeros(2))
    model = Diffusion(network=network, n_estimators=1, max_iter=20, random_state=0).fit(X)
    assert (model.denoiser_.network.idle == 0).all()


@pytest.mark.parametrize("name, module", [("Diffusion", diffusion_module), ("FlowMatching", flows)])
@pytest.mark.parametrize(
    "options, expected",
    [({"width": 64}, 1), ({"width": 128}, 2), ({"width": 64, "batch_size": 512}, 2)],
)
def test_small_networks_train_with_one_thread(name, module, options, expected, X, monkeypatch):
    seen = []

    def train(*args, **kwargs):
        seen.append(torch.get_num_threads())
        raise KeyError("trained")

    monkeypatch.setattr(module, "train", train)
    with torch_threads(2):
        with pytest.raises(KeyError, match="trained"):
            MODELS[name](**options).fit(X)
        assert seen == [expected] and torch.get_num_threads() == 2


def test_data_in_a_subspace_are_learned_there(X):
    """The denoiser leaves no noise across the span, and what it does inside is as if alone."""
    basis = torch.linalg.qr(torch.randn(7, 3, generator=torch.Generator().manual_seed(0))).Q
    model = MODELS["Diffusion"]().fit(X @ basis.numpy().T)
    assert model.scaling_.rank == 3
    y = torch.randn(9, 7, generator=torch.Generator().manual_seed(1))
    out = model.denoiser_(y, torch.tensor(0.5))
    span = model.denoiser_.basis
    torch.testing.assert_close(out @ span @ span.T, out, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.denoiser_(y @ span @ span.T, torch.tensor(0.5)), out)
