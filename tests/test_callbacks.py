"""Progress and monitors of scikit-learn 1.9: what callbacks are told, wherever they are set."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import MODELS, cases

from alignlearn import LyapunovManifold
from alignlearn._callbacks import CallbackSupportMixin
from alignlearn.models import Diffusion
from alignlearn.scoring import denoising_score

try:
    from sklearn.callback import ProgressBar, ScoringMonitor
except ImportError:
    ProgressBar = None

needs_callbacks = pytest.mark.skipif(ProgressBar is None, reason="scikit-learn before 1.9")
every_model = pytest.mark.parametrize("make_model", **cases(MODELS))
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
MAX_ITER = 4  # as many evaluations of each network


def rows():
    return np.random.default_rng(0).standard_normal((40, 3)) * [2.0, 1.0, 0.1]


def diffusion(**options):
    options = {"max_iter": MAX_ITER, "n_estimators": 1, "width": 8, "n_blocks": 1} | options
    return Diffusion(random_state=0, **options)


def manifold(model):
    return LyapunovManifold(model=model, n_steps=2, n_paths=1, n_reference=9, random_state=0)


class Recorder:
    """Callback that notes who ended which task and stops at the evaluation asked for."""

    max_propagation_depth = None

    def __init__(self, stop_at=None):
        self.stop_at, self.begun, self.ended, self.open = stop_at, [], [], 0

    def setup(self, estimator, context):
        self.open += 1

    def teardown(self, estimator, context):
        self.open -= 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((type(estimator).__name__, context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.ended.append((type(estimator).__name__, context.task_name))
        return self.ended.count(("Diffusion", "evaluation")) == self.stop_at


AROUND = {
    "nothing": lambda m: m,
    "Pipeline": lambda m: make_pipeline(StandardScaler(), m),
    "GridSearchCV": lambda m: GridSearchCV(
        make_pipeline(StandardScaler(), m),
        {"lyapunovmanifold__n_steps": [2, 3]},
        cv=2,
        error_score="raise",
    ),
}
N_FITS = {"nothing": 1, "Pipeline": 1, "GridSearchCV": 5}


@needs_callbacks
@pytest.mark.parametrize("where", AROUND)
def test_callback_on_the_outside_sees_every_evaluation_inside(where):
    recorder = Recorder()
    AROUND[where](manifold(diffusion())).set_callbacks(recorder).fit(rows())
    assert recorder.open == 0
    assert recorder.ended.count(("Diffusion", "evaluation")) == N_FITS[where] * MAX_ITER
    assert recorder.ended.count(("LyapunovManifold", "fit")) == N_FITS[where]
    assert sorted(recorder.begun) == sorted(recorder.ended)


@needs_callbacks
@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("where", ["nothing", "Pipeline"])
@every_model
def test_progress_bar_reaches_one_hundred_percent(make_model, where, capsys):
    pytest.importorskip("rich")
    estimator = AROUND[where](manifold(make_model()))
    estimator.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(rows())
    printed = capsys.readouterr().out
    last = {line.split(" - ")[0].strip(): line for line in printed.splitlines() if " - " in line}
    assert "LyapunovManifold" in printed
    assert all("100%" in line for line in last.values()), printed


@needs_callbacks
def test_two_workers_report_to_one_progress_bar(capsys):
    pytest.importorskip("rich")
    search = AROUND["GridSearchCV"](manifold(MODELS["GaussianModel"]())).set_params(n_jobs=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(rows())
    printed = capsys.readouterr().out
    assert printed.count("LyapunovManifold - fit") >= 5


@needs_callbacks
def test_fit_under_a_callback_is_the_fit_without():
    for model in (diffusion(), manifold(diffusion())):
        watched = clone(model).set_callbacks(Recorder()).fit(rows())
        expected = clone(model).fit(rows()).score_samples(rows())
        np.testing.assert_array_equal(watched.score_samples(rows()), expected)


@needs_callbacks
@pytest.mark.parametrize("where", ["nothing", "Pipeline"])
def test_callback_that_says_stop_ends_training_there(where):
    estimator = AROUND[where](manifold(diffusion(n_estimators=2)))
    estimator.set_callbacks(Recorder(stop_at=3)).fit(rows())
    model = (estimator if where == "nothing" else estimator[-1]).model_
    assert model.n_iter_ == 3 and len(model.histories_) == 1
    assert np.isfinite(estimator.score_samples(rows())).all()


@needs_callbacks
def test_failed_fit_leaves_no_callback_open():
    recorder = Recorder()
    with pytest.raises(ValueError, match="NaN"):
        manifold(diffusion()).set_callbacks(recorder).fit(rows() * np.nan)
    assert recorder.open == 0


class Keeper:
    """Monitor that keeps the estimators it is handed and scores them on other rows."""

    def __init__(self):
        self.kept, self.scores, self.final = [], [], None

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        if context.task_name == "evaluation":
            self.kept.append(fitted_estimator)
            self.scores.append(denoising_score(fitted_estimator, X))


@needs_callbacks
@pytest.mark.parametrize("n_estimators", [1, 2])
def test_monitor_is_handed_the_model_that_stopping_there_would_give(n_estimators):
    keeper, model = Keeper(), diffusion(n_estimators=n_estimators)
    full = clone(model).set_callbacks(keeper).fit(rows())
    assert len(keeper.kept) == n_estimators * MAX_ITER
    for step in (1, MAX_ITER, n_estimators * MAX_ITER):
        stopped = clone(model).set_callbacks(Recorder(stop_at=step)).fit(rows())
        handed = keeper.kept[step - 1]
        np.testing.assert_array_equal(handed.score_samples(rows()), stopped.score_samples(rows()))
        assert (handed.n_iter_, handed.loss_) == (stopped.n_iter_, stopped.loss_)
    assert keeper.scores[-1] == denoising_score(full, rows())
    assert keeper.scores[0] != keeper.scores[-1]


@needs_callbacks
def test_scoring_monitor_logs_the_course_of_training():
    """It scores where there is a y, which all models ignore."""
    monitor = ScoringMonitor(scoring={"denoising": denoising_score})
    model = diffusion().set_callbacks(monitor).fit(rows(), np.zeros(40))
    logged = [row for row in monitor.get_logs().data if row["task_name"] == "evaluation"]
    assert len(logged) == MAX_ITER
    assert logged[-1]["denoising"] == pytest.approx(denoising_score(model, rows()))


@pytest.mark.skipif(ProgressBar is not None, reason="scikit-learn 1.9 and later")
@every_model
def test_shim_is_silent(make_model, capsys):
    for estimator in (make_model(), manifold(make_model())):
        assert isinstance(estimator, CallbackSupportMixin)
        assert not hasattr(estimator.fit(rows()), "set_callbacks")
    assert capsys.readouterr() == ("", "")
