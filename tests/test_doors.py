"""A model of another library comes through its door as what it is, read from the disk or not."""

import functools
import json
import pickle
import re
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import gaussian_sample, projectors
from real_networks import diffusers_unet
from tables import PREDICTIONS, GaussianNetwork, cases

from alignlearn import LyapunovManifold
from alignlearn.clocks import LinearClock
from alignlearn.doors import (
    from_azula,
    from_diffusers,
    from_edm,
    from_exported,
    from_lucidrains,
    from_score_sde,
    from_torchcfm,
    from_torchscript,
)
from alignlearn.models import PretrainedModel
from alignlearn.predictions import NoisePrediction
from alignlearn.schedules import Cosine, LinearVP, Rectified, Trigonometric, VarianceExploding
from alignlearn.tabulated import Tabulated
from alignlearn.tangent import lyapunov_frame

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = gaussian_sample(60)
MOMENTS = {"mean": X.mean(0), "deviation": X.std(0)}
LEVELS = [0.1, 0.7, 3.0]


def in_units(model, y, s):
    """The denoiser of a fitted model in the units of its data, as numpy."""
    unit = np.exp(model.scaling_.log_unit)
    level = torch.tensor(s / unit, dtype=torch.float64)
    with torch.no_grad():
        return model.decode(model.denoiser()(model.encode(y), level))


def expected(y, s):
    """Denoiser of independent Gaussian features with the moments of X."""
    gain = X.var(0) / (X.var(0) + s**2)
    return X.mean(0) + gain * (y - X.mean(0))


def assert_knows_the_gaussian(model, rtol=1e-6):
    """Whatever its conventions: the denoiser is the closed form, in the units of X."""
    model.fit(X)
    y = X[:5] + 0.3
    for s in LEVELS:
        np.testing.assert_allclose(in_units(model, y, s), expected(y, s), rtol=rtol, atol=1e-6)


# --- call signatures: networks that know the Gaussian -----------------------------------------


def test_edm_denoiser_is_told_the_noise_level():
    def denoiser(x, sigma):
        assert sigma.shape == (len(x),)
        variance, mean = (torch.from_numpy(v).to(x) for v in (X.var(0), X.mean(0)))
        return mean + variance / (variance + sigma[:, None] ** 2) * (x - mean)

    assert_knows_the_gaussian(from_edm(denoiser), rtol=1e-4)


def test_edm_network_says_the_shape_of_its_images():
    denoiser = types.SimpleNamespace(img_channels=3, img_resolution=8)
    assert from_edm(denoiser).shape == (3, 8, 8)
    assert from_edm(denoiser, shape=(1, 2, 3)).shape == (1, 2, 3)


PATHS = {"straight": Rectified(), "variance preserving": Trigonometric()}


@pytest.mark.parametrize("schedule", **cases(PATHS))
@pytest.mark.parametrize("scalar_time", [True, False])
def test_torchcfm_network_has_time_first_and_noise_at_zero(schedule, scalar_time):
    velocity = GaussianNetwork(PREDICTIONS["velocity"], schedule, **MOMENTS)

    class Network(torch.nn.Module):
        def forward(self, t, x):
            assert t.ndim == (0 if scalar_time else 1)
            return -velocity(x, (1 - t).expand(len(x)))  # d/d(1 - t) of the library's

    options = {"schedule": schedule, "scalar_time": scalar_time}
    assert_knows_the_gaussian(from_torchcfm(Network().eval(), **options), rtol=1e-4)
    assert not from_torchcfm(Network().eval(), **options, coupled=True).fit(X).has_score


class VPSDE:
    """What `from_score_sde` needs of an SDE, with the formulas of Song et al. (2021)."""

    beta_0, beta_1 = 0.1, 20.0

    def log_mean(self, t):
        return -0.25 * t**2 * (self.beta_1 - self.beta_0) - 0.5 * t * self.beta_0

    def marginal_prob(self, x, t):
        coefficient = self.log_mean(t)
        mean = torch.exp(coefficient[:, None, None, None]) * x
        return mean, torch.sqrt(1 - torch.exp(2 * coefficient))


class SubVPSDE(VPSDE):
    def marginal_prob(self, x, t):
        return super().marginal_prob(x, t)[0], 1 - torch.exp(2 * self.log_mean(t))


class VESDE:
    def marginal_prob(self, x, t):
        return x, 0.01 * (50.0 / 0.01) ** t


@pytest.mark.parametrize("sde", [VPSDE(), SubVPSDE(), VESDE()], ids=lambda sde: type(sde).__name__)
def test_score_of_every_sde_comes_through(sde):
    variance, mean = (torch.from_numpy(v) for v in (X.var(0), X.mean(0)))

    def score(x, t):
        ones, sigma = sde.marginal_prob(torch.ones(len(t), 1, 1, 1), t)
        alpha, sigma = ones.reshape(-1, 1).double(), sigma.reshape(-1, 1).double()
        return ((alpha * mean - x) / (alpha**2 * variance + sigma**2)).to(x)

    assert_knows_the_gaussian(from_score_sde(score, sde), rtol=1e-3)


@pytest.mark.parametrize("schedule", [LinearVP(), VarianceExploding(0.01, 50.0)], ids=repr)
def test_score_and_raw_network_on_a_schedule_come_through(schedule):
    score = GaussianNetwork(PREDICTIONS["score"], schedule, **MOMENTS)
    assert_knows_the_gaussian(from_score_sde(score, schedule))
    options = {"clock": LinearClock(999), "prediction": NoisePrediction()}
    raw = GaussianNetwork(NoisePrediction(), schedule, LinearClock(999), **MOMENTS)
    assert_knows_the_gaussian(from_score_sde(raw, schedule, **options))


def test_sde_that_is_none_is_refused():
    with pytest.raises(TypeError, match="sde must be a Schedule.*marginal_prob"):
        from_score_sde(lambda x, t: x, "VP")
    with pytest.raises(TypeError, match="need a Schedule"):
        from_score_sde(lambda x, t: x, VPSDE(), clock=LinearClock(999))


class AnalyticDenoiser(torch.nn.Module):
    """What `from_azula` needs of a denoiser."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule
        self.eval()

    def forward(self, x_t, t):
        alpha, sigma = (v.reshape(-1, 1) for v in self.schedule(t.double()))
        variance, mean = torch.from_numpy(X.var(0)), torch.from_numpy(X.mean(0))
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        return types.SimpleNamespace(mean=(mean + gain * (x_t - alpha * mean)).to(x_t))


def decay(t):
    return 1 - 0.999 * t, 1e-3 + t


def test_azula_denoiser_keeps_its_schedule():
    assert_knows_the_gaussian(from_azula(AnalyticDenoiser(decay)), rtol=1e-3)
    with pytest.raises(TypeError, match="must have a schedule"):
        from_azula(lambda x, t: x)
    with pytest.raises(ValueError, match="data at t = 0"):
        from_azula(AnalyticDenoiser(lambda t: decay(1 - t)))


@pytest.mark.parametrize(
    "name", ["VESchedule", "VPSchedule", "CosineSchedule", "RectifiedSchedule", "DecaySchedule"]
)
@pytest.mark.parametrize("preconditioning", ["SimpleDenoiser", "KarrasDenoiser"])
def test_real_azula_denoiser_says_its_mean(name, preconditioning):
    noise, denoise = (pytest.importorskip(f"azula.{module}") for module in ("noise", "denoise"))

    class Backbone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, x, t):
            return self.weight * torch.sin(x + t.reshape(-1, 1))

    schedule = getattr(noise, name)()
    denoiser = getattr(denoise, preconditioning)(Backbone(), schedule).eval()
    model, y = from_azula(denoiser).fit(X), X[:5] + 0.3
    for t in (0.2, 0.5, 0.8):
        t = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = schedule(t)
        with torch.no_grad():
            truth = denoiser(alpha * torch.from_numpy(y), t).mean
        actual = in_units(model, y, float(sigma / alpha))
        np.testing.assert_allclose(actual, truth, rtol=1e-4, atol=1e-4)


def diffusion_object(objective, normalize, n_steps=100):
    """What `from_lucidrains` needs of a GaussianDiffusion1D."""
    squares = np.cumprod(1 - np.linspace(1e-4, 0.1, n_steps))
    table = Tabulated.from_alphas_cumprod(torch.tensor(squares).float().tolist())
    predictions = {"pred_noise": "noise", "pred_x0": "sample", "pred_v": "v"}
    prediction = PREDICTIONS[predictions[objective]]
    moments = {"mean": 2 * X.mean(0) - 1, "deviation": 2 * X.std(0)} if normalize else MOMENTS

    class Network(torch.nn.Module):
        channels = 1

        def __init__(self):
            super().__init__()
            self.inner = GaussianNetwork(prediction, table, LinearClock(n_steps - 1), **moments)

        def forward(self, x, time, x_self_cond=None):
            assert time.shape == (len(x),) and x_self_cond is None
            return self.inner(x, time)

    return types.SimpleNamespace(
        model=Network().eval(),
        objective=objective,
        alphas_cumprod=torch.tensor(squares).float(),
        normalize=(lambda x: 2 * x - 1) if normalize else (lambda x: x),
        seq_length=3,
    )


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
def test_lucidrains_object_says_objective_schedule_and_units(objective, normalize):
    model = from_lucidrains(diffusion_object(objective, normalize))
    assert model.shape == (1, 3)
    assert_knows_the_gaussian(model, rtol=1e-5)


def test_lucidrains_object_that_is_none_is_refused():
    with pytest.raises(TypeError, match="has no model, objective.*preconditioned_network_forward"):
        from_lucidrains(object())
    diffusion = diffusion_object("pred_noise", True)
    diffusion.objective = "pred_score"
    with pytest.raises(ValueError, match="objective must be one of"):
        from_lucidrains(diffusion)
    del diffusion.seq_length
    diffusion.image_size, diffusion.objective = (4, 5), "pred_v"
    assert from_lucidrains(diffusion).shape == (1, 4, 5)


# --- programs ---------------------------------------------------------------------------------


class Small(torch.nn.Module):
    """A network of rows and time, (n, 3) and (n,)."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = torch.nn.Linear(4, 16), torch.nn.Linear(16, 3)
        self.eval().requires_grad_(False)

    def forward(self, x, t):
        return self.last(torch.tanh(self.first(torch.cat([x, t[:, None]], 1))))


def exported(path):
    rows = torch.export.Dim("rows")
    example = (torch.zeros(4, 3), torch.zeros(4))
    program = torch.export.export(Small(), example, dynamic_shapes=({0: rows}, {0: rows}))
    torch.export.save(program, path)
    return from_exported(path, NoisePrediction(), Cosine())


def scripted(path):
    torch.jit.save(torch.jit.script(Small()), path)
    return from_torchscript(path, NoisePrediction(), Cosine(), device="cpu")


def traced(path):
    torch.jit.save(torch.jit.trace(Small(), (torch.zeros(2, 3), torch.zeros(2))), path)
    return from_torchscript(path, NoisePrediction(), Cosine(), device="cpu")


def frame_of(model, X=X, n=3, **options):
    options = {"n_steps": 2, "n_paths": 2, "n_reference": 5, "random_state": 0} | options
    return LyapunovManifold(model=model, **options).fit(X).lyapunov_frame(X[:n])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("write", [exported, scripted, traced], ids=lambda write: write.__name__)
def test_program_has_the_frames_of_its_module(write, tmp_path):
    model = write(str(tmp_path / "network.pt2"))
    module = PretrainedModel(Small(), NoisePrediction(), Cosine())
    truth = frame_of(module)
    for network in (model, pickle.loads(pickle.dumps(model))):
        frame = frame_of(network)
        np.testing.assert_allclose(frame.exponents, truth.exponents, atol=1e-5)
        np.testing.assert_allclose(projectors(frame.vectors), projectors(truth.vectors), atol=1e-5)


def test_program_of_another_kind_is_refused():
    for door in (from_exported, from_torchscript):
        with pytest.raises(TypeError, match="must be a"):
            door(Small(), NoisePrediction(), Cosine())


# --- diffusers --------------------------------------------------------------------------------

SIDE = 4
SCHEDULERS = {
    "DDPM, noise": ("DDPMScheduler", {}),
    "DDPM, data, cosine": (
        "DDPMScheduler",
        {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"},
    ),
    "DDIM, v, scaled linear": (
        "DDIMScheduler",
        {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"},
    ),
    "DDIM, v, zero terminal SNR": (
        "DDIMScheduler",
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    ),
    "Euler": ("EulerDiscreteScheduler", {}),
    "flow matching": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "EDM": ("EDMEulerScheduler", {}),
    "EDM, v": ("EDMEulerScheduler", {"prediction_type": "v_prediction"}),
}


@functools.lru_cache(1)
def unet():
    """A tiny network of 4 x 4 images with attention."""
    pytest.importorskip("diffusers")
    return diffusers_unet().eval()


def scheduler(name, options=None):
    diffusers = pytest.importorskip("diffusers")
    clip = {"clip_sample": False} if name in ("DDPMScheduler", "DDIMScheduler") else {}
    return getattr(diffusers, name)(**(clip | (options or {})))


def images(n=30):
    return 0.3 * np.random.default_rng(0).normal(size=(n, SIDE**2))


def written(folder, made):
    """The folder of a pipeline, as save_pretrained leaves it."""
    unet().save_pretrained(folder / "unet")
    made.save_pretrained(folder / "scheduler")
    classes = {"unet": ["diffusers", "UNet2DModel"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "P", **classes}))
    return folder


def diffusers_denoiser(made, y, step):
    """``E[x_0 | y]`` by the scheduler's own code at one of its steps, and the noise level there."""
    name = type(made).__name__
    if name.startswith("EDM"):
        sigma = torch.tensor(0.7)
        output = unet()(made.precondition_inputs(y, sigma), made.precondition_noise(sigma)).sample
        return made.precondition_outputs(y, output, sigma), float(sigma)
    if name.startswith("FlowMatch"):
        sigma = step / 1000
        x = (1 - sigma) * y
        return x - sigma * unet()(x, torch.tensor(float(step))).sample, sigma / (1 - sigma)
    alpha = made.alphas_cumprod[step].sqrt()
    s = float((1 - alpha**2).sqrt() / alpha)
    output = unet()(alpha * y, torch.tensor(step)).sample
    made.set_timesteps(1000)
    euler = name.startswith("Euler")
    at = torch.tensor(float(step)) if euler else step
    return made.step(output, at, y if euler else alpha * y).pred_original_sample, s


@pytest.mark.parametrize("name, options", **cases(SCHEDULERS))
def test_diffusers_folder_denoises_as_the_scheduler_says(name, options, tmp_path):
    made = scheduler(name, options)
    model = from_diffusers(written(tmp_path, made), device="cpu").fit(images(8))
    assert model.shape == (1, SIDE, SIDE)
    y = torch.from_numpy(images(4)).float()
    for step in (300, 700):
        truth, s = diffusers_denoiser(made, y.reshape(4, 1, SIDE, SIDE), step)
        actual = in_units(model, y.numpy(), s)
        np.testing.assert_allclose(actual, truth.reshape(4, -1), rtol=2e-4, atol=2e-5)


def ode_frame(model):
    """Vectors and exponents of two steps of the flow at two images."""
    x, flow = model.encode(images(2)), model.flow(n_steps=2, window=(0.1, 0.5))
    with torch.no_grad():
        return lyapunov_frame(flow, flow.trajectory(x))


@pytest.mark.filterwarnings("ignore:derivatives of the network:RuntimeWarning")
def test_same_network_through_four_doors_has_the_same_frames(tmp_path):
    made = scheduler("DDPMScheduler")
    table = Tabulated.from_alphas_cumprod(made.alphas_cumprod.tolist())

    def noise(x, t):
        return unet()(x, t).sample

    def denoiser(y, sigma):
        steps = 999 * table.time(sigma.double())
        sigma = sigma[:, None, None, None]
        return y - sigma * noise(y / torch.sqrt(1 + sigma**2), steps.float())

    def score(x, t):
        return -noise(x, 999 * t) / table.sigma(t.double()).to(x)[:, None, None, None]

    shape = (1, SIDE, SIDE)
    low, high = table.ratio(torch.tensor([0.0, 1.0])).tolist()
    lucidrains = types.SimpleNamespace(
        model=lambda x, t, _: noise(x, t),
        objective="pred_noise",
        alphas_cumprod=made.alphas_cumprod,
        normalize=lambda x: x,
        image_size=SIDE,
        channels=1,
    )
    models = [
        from_diffusers(written(tmp_path, made), device="cpu"),
        from_edm(denoiser, sigma_min=low, sigma_max=high, shape=shape),
        from_score_sde(score, table, shape=shape),
        from_lucidrains(lucidrains),
    ]
    first, *others = [ode_frame(model.fit(images(8))) for model in models]
    for frame in others:
        np.testing.assert_allclose(frame.exponents, first.exponents, atol=1e-4)
        leading = [projectors(f.vectors[:, :, :3]) for f in (frame, first)]
        np.testing.assert_allclose(*leading, atol=2e-3)


def test_frames_of_a_unet_with_attention_are_those_of_its_dense_jacobians(tmp_path):
    """One reverse-mode pass per output of the denoiser, without the library's derivatives."""
    folder = written(tmp_path, scheduler("DDPMScheduler"))
    options = {"model": from_diffusers(folder, device="cpu"), "window": (0.1, 0.5)}
    m = LyapunovManifold(**options, n_steps=2, n_paths=1, n_reference=2, random_state=0)
    m.fit(images(8))
    x, flow = m.model_.encode(images(2)), m._reader().flow((0.1, 0.5))
    noise = m._reader()._noising(x, 2, torch.Generator().manual_seed(m._path_seed))[0]
    with torch.no_grad():
        states = flow.trajectory(x, noise).states

    def jacobian(i, row):
        step = flow.step(i)
        return torch.autograd.functional.jacobian(lambda v: step(v[None])[0], row).double()

    product = torch.stack([jacobian(1, states[1][j]) @ jacobian(0, states[0][j]) for j in (0, 1)])
    U, S, _ = torch.linalg.svd(product)
    frame = m.lyapunov_frame(images(2))
    np.testing.assert_allclose(frame.exponents, S.log() / flow.elapsed, atol=1e-4)
    leading = [projectors(V[:, :, :3]) for V in (frame.vectors, U.numpy())]
    np.testing.assert_allclose(*leading, atol=2e-3)


def test_network_and_scheduler_come_as_objects_and_as_folders(tmp_path):
    made = scheduler("DDPMScheduler")
    folder = written(tmp_path, made)
    models = [
        from_diffusers(folder, device="cpu"),
        from_diffusers(folder / "unet", folder / "scheduler", device="cpu"),
        from_diffusers(str(folder / "unet"), made, device="cpu"),
        from_diffusers(unet(), made),
    ]
    models.append(pickle.loads(pickle.dumps(models[0])))
    y = images(3)
    first, *others = [in_units(model.fit(images(8)), y, 0.3) for model in models]
    for answer in others:
        np.testing.assert_array_equal(answer, first)
    with pytest.raises(TypeError, match="pass the scheduler"):
        from_diffusers(unet())


def test_clipping_of_the_scheduler_is_left_out_with_a_note():
    clipping = scheduler("DDPMScheduler", {"clip_sample": True})
    with pytest.warns(UserWarning, match="DDPMScheduler is configured with clip_sample"):
        model = from_diffusers(unet(), clipping)
    plain = from_diffusers(unet(), scheduler("DDPMScheduler"))
    answers = [in_units(m.fit(images(8)), 10 * images(2), 0.3) for m in (model, plain)]
    np.testing.assert_array_equal(*answers)


def test_folder_that_is_none_or_unsafe_is_refused(tmp_path):
    pytest.importorskip("diffusers")
    with pytest.raises(FileNotFoundError, match="save_pretrained.*local folders only"):
        from_diffusers(tmp_path / "nothing", scheduler("DDPMScheduler"))
    with pytest.raises(FileNotFoundError, match="local folders only"):
        from_diffusers("google/ddpm-cifar10-32")
    unet().save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(FileNotFoundError, match="safetensors.*can run code"):
        from_diffusers(tmp_path, scheduler("DDPMScheduler"))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"_class_name": "AutoModel"}))
    with pytest.raises(ValueError, match="name of a ModelMixin"):
        from_diffusers(tmp_path, scheduler("DDPMScheduler"))


def test_scheduler_of_another_kind_is_refused():
    def fake(**config):
        return types.SimpleNamespace(config=config, alphas_cumprod=torch.tensor([0.9, 0.5]))

    with pytest.raises(ValueError, match="prediction_type must be one of epsilon"):
        from_diffusers(unet(), fake(prediction_type="residual"))
    with pytest.raises(TypeError, match="alphas_cumprod"):
        from_diffusers(unet(), types.SimpleNamespace(config={}))


def test_images_of_another_size_are_refused():
    model = from_diffusers(unet(), scheduler("DDPMScheduler"))
    with pytest.raises(ValueError, match="16 numbers, but X has 9 features"):
        model.fit(np.random.default_rng(0).normal(size=(10, 9)))


def test_conditional_network_needs_its_condition():
    pytest.importorskip("diffusers")
    network = diffusers_unet(
        out_channels=2,  # with a variance, which is left out
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        num_class_embeds=2,
    ).eval()
    with pytest.raises(ValueError, match="condition={'class_labels': tensor}"):
        from_diffusers(network, scheduler("DDPMScheduler"))
    answers = []
    for label in (0, 1):
        condition = {"class_labels": torch.tensor([label])}
        model = from_diffusers(network, scheduler("DDPMScheduler"), condition=condition)
        answers.append(in_units(model.fit(images(8)), images(3), 0.3))
    assert np.abs(answers[0] - answers[1]).max() > 1e-4


def test_examples_of_the_page_run(tmp_path, monkeypatch):
    """With images, a folder and a network as the page supposes them; few paths and steps."""
    reader = LyapunovManifold._reader
    small = {"n_steps": 1, "n_paths": 1}
    monkeypatch.setattr(LyapunovManifold, "_reader", lambda m: replace(reader(m), **small))
    page = Path(__file__).resolve().parents[1] / "docs" / "guide" / "pretrained.md"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").mkdir()
    written(tmp_path / "my-model", scheduler("DDPMScheduler"))
    known = GaussianNetwork(NoisePrediction(), Cosine(), LinearClock(999), deviation=0.6)

    def network(x, t, label=None):
        return known(x, t)

    names = {"X": images(6) + 0.5, "network": network}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(block, names)
    assert names["m"].model_.network is network and names["model"].network.func is network
