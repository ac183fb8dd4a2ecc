"""The command line: ``python -m alignlearn demo | estimate FILE | info``."""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import platform
import sys
import time
import warnings
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from alignlearn import LyapunovManifold, __version__
from alignlearn._tables import TableError, read_table
from alignlearn.models import Diffusion
from alignlearn.report import GeometryReport

_DIGIT = 0  # the digit that is moved
_MOVES = (1, 2, 3, 5, 10, 20, 50)  # along these vectors


def main(argv=None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments, default those of the process.

    Returns
    -------
    code : int
        0, or 2 for something that the user can put right, told in one line on stderr.
    """
    options = _parser().parse_args(argv)
    try:
        options.command(options)
    except (TableError, _UserError) as error:
        print(f"alignlearn: {error}", file=sys.stderr)
        return 2
    return 0


class _UserError(Exception):
    """Told to the user in one line."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m alignlearn",
        description="Tangent spaces and intrinsic dimension of data, from the Lyapunov vectors of "
        "a generative model.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--max-iter", type=_positive, metavar="N", help="training steps at most")
    common.add_argument("--random-state", type=int, default=0, metavar="S", help="seed, default 0")

    demo = commands.add_parser(
        "demo", parents=[common], help="fit scikit-learn's digits, report and draw"
    )
    demo.add_argument(
        "--output", type=Path, default=Path("alignlearn-demo"), metavar="DIR", help="for pictures"
    )
    demo.set_defaults(command=run_demo)

    estimate = commands.add_parser(
        "estimate", parents=[common], help="report the geometry of a table in a file"
    )
    estimate.add_argument("file", metavar="FILE", help="csv, tsv, npy, npz or parquet")
    estimate.add_argument("--key", help="which array of an npz file")
    estimate.add_argument(
        "--output", type=Path, metavar="DIR", help="also write the report and a picture here"
    )
    estimate.set_defaults(command=run_estimate)

    info = commands.add_parser("info", help="versions, device and optional packages")
    info.set_defaults(command=run_info)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def run_demo(options) -> None:
    """Digits: fit, report, pictures."""
    from sklearn.datasets import load_digits

    for name, use in [("matplotlib", "pictures"), ("rich", "progress bar")]:
        if not _installed(name):
            print(f"No {use} without {name}: pip install 'alignlearn[demo]'")
    folder = _make_folder(options.output)
    digits = load_digits()
    X, y = digits.data, digits.target
    print(f"scikit-learn's digits: {X.shape[0]} images of 8 x 8 pixels, as rows of 64 numbers.")
    manifold, report = _fit(X, y, options)
    print(f"\n{report}\n")
    files = [_write_text(folder, report)]
    if _installed("matplotlib"):
        files += _draw_digits(manifold, X, folder, options.random_state)
    _say_files(files)


def run_estimate(options) -> None:
    """The user's table: read, fit, report."""
    table = read_table(options.file, options.key)
    folder = None if options.output is None else _make_folder(options.output)
    n, D = table.values.shape
    print(f"{options.file}: {n} rows, {D} columns.")
    for note in table.notes:
        print(f"note: {note}")
    manifold, report = _fit(table.values, None, options)
    print(f"\n{report}\n")
    if folder is not None:
        files = [_write_text(folder, report)]
        if _installed("matplotlib"):
            files.append(_draw_spectrum(manifold, folder))
        else:
            print("No picture without matplotlib: pip install 'alignlearn[demo]'")
        _say_files(files)


def run_info(options) -> None:
    """Versions, device, optional packages."""
    import torch

    lines = {"alignlearn": __version__, "Python": platform.python_version()}
    lines["platform"] = platform.platform()
    for name in ("numpy", "scipy", "scikit-learn", "joblib", "torch"):
        lines[name] = _version(name)
    cuda = torch.cuda.is_available()
    lines["device"] = torch.cuda.get_device_name() if cuda else "CPU"
    lines["threads"] = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    for name, use in [("matplotlib", "pictures"), ("rich", "progress bar"), ("pandas", "parquet")]:
        lines[name] = f"{_version(name)} ({use})"
    for name, value in lines.items():
        print(f"{name:<14}{value}")


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _make_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _UserError(f"cannot write to {str(path)!r}: {error.strerror}.") from error
    return path


def _fit(X, y, options):
    """Fit with a progress bar where a terminal shows one; warnings come as one-line notes."""
    model = Diffusion() if options.max_iter is None else Diffusion(max_iter=options.max_iter)
    manifold = LyapunovManifold(model=model, random_state=options.random_state)
    callbacks = _progress_bar()
    if callbacks:
        manifold.set_callbacks(*callbacks)
    print("Fitting a diffusion model, then measuring its Lyapunov vectors ...", flush=True)
    start = time.perf_counter()
    with _warnings_as_notes():
        try:
            manifold.fit(X)
        except ValueError as error:
            raise _UserError(str(error)) from error
    seconds = time.perf_counter() - start
    return manifold, GeometryReport.from_estimator(manifold, X, y, seconds=seconds)


def _progress_bar() -> list:
    """scikit-learn's progress bar (1.9 and later, with rich), for terminals only."""
    if not (sys.stdout.isatty() and _installed("rich")):
        return []
    try:
        from sklearn.callback import ProgressBar
    except ImportError:
        return []
    return [ProgressBar()]


@contextmanager
def _warnings_as_notes():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print(f"note: {warning.message}", file=sys.stderr)


def _write_text(folder: Path, report: GeometryReport) -> Path:
    path = folder / "report.txt"
    path.write_text(f"{report}\n", encoding="utf-8")
    return path


def _use_files_only() -> None:
    """Draw without a screen."""
    import matplotlib

    matplotlib.use("agg")


def _say_files(files: list[Path]) -> None:
    print("Written:")
    for path in files:
        print(f"  {path.resolve()}")


def _save(figure, path: Path) -> Path:
    from matplotlib import pyplot as plt

    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _draw_spectrum(manifold, folder: Path) -> Path:
    from alignlearn.plotting import SpectrumDisplay

    _use_files_only()
    display = SpectrumDisplay.from_estimator(manifold)
    return _save(display.figure_, folder / "spectrum.png")


def _draw_digits(manifold, X: np.ndarray, folder: Path, random_state: int) -> list[Path]:
    """Spectrum, moves of one digit along Lyapunov vectors, generated digits beside real ones."""
    from sklearn.neighbors import NearestNeighbors

    from alignlearn.plotting import ImageGridDisplay, ImageMovesDisplay

    _use_files_only()
    # One step for all vectors, a little longer than from a digit to its nearest neighbour. The
    # vectors are those of the whole generating run, as in the paper.
    distances, _ = NearestNeighbors(n_neighbors=1).fit(X).kneighbors()
    near = float(np.median(distances))
    whole_run = copy.copy(manifold).set_params(window=manifold.model_.noise_range_, n_steps=16)
    moves = ImageMovesDisplay.from_estimator(
        whole_run, X[_DIGIT], (8, 8), _MOVES, 1.5 * near, value_range=(0, 16)
    )
    moves.figure_.suptitle("A digit moved along its Lyapunov vectors, always by the same step")
    moves.figure_.supxlabel(
        f"Every step is {1.5 * near:.0f} grey levels long (over all 64 pixels); a digit and its "
        f"nearest neighbour are {near:.0f} apart.\n"
        "What to compare: the first vectors should reshape the strokes, late ones light pixels "
        "that digits leave dark.",
        fontsize=10,
    )
    n = 48
    rows = np.random.default_rng(random_state).permutation(len(X))[:n]
    generated = manifold.sample(n, random_state)
    grid = ImageGridDisplay(
        {"real": X[rows].reshape(-1, 8, 8), "generated": generated.reshape(-1, 8, 8)},
        value_range=(0, 16),
    ).plot()
    return [
        _draw_spectrum(manifold, folder),
        _save(moves.figure_, folder / "moves.png"),
        _save(grid.figure_, folder / "generated.png"),
    ]


if __name__ == "__main__":
    sys.exit(main())
