"""The paper's MNIST setting (G.3): a U-Net, its diffusion, Lyapunov vectors, Figures 2 and 5.

With the files of MNIST in a folder and a GPU:

    python examples/paper/mnist.py --folder mnist

The files are ``train-images-idx3-ubyte`` or the same with ``.gz``. Without a folder the script
writes scikit-learn's digits as such a file, enlarged to 28 x 28 pixels, and takes that, with less
of everything: minutes on a CPU.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import figure2
import figure5
import numpy as np
import torch
from images import generate, load_images
from scipy.ndimage import zoom
from shared import Stopwatch, arguments
from sklearn.datasets import load_digits

from alignlearn.models import Diffusion

FILE = "train-images-idx3-ubyte"
# The paper's; then what a processor does in minutes, then in seconds.
PAPER = {"epochs": 30, "width": 64, "n_steps": 4000, "m": 16}
STAND_IN = {"epochs": 20, "width": 24, "n_steps": 60, "m": 3}
QUICK = {"epochs": 1, "width": 4, "n_steps": 3, "m": 2}
BATCH = 64
OPTIONS = (
    ("--folder", {"type": Path, "help": f"where {FILE}[.gz] is; default: the stand-in"}),
    ("--n-images", {"type": int, "help": "images to train on; default: all"}),
    ("--epochs", {"type": int, "help": "passes over them; the paper's 30"}),
    ("--width", {"type": int, "help": "of the U-Net; default 64"}),
    ("--n-steps", {"type": int, "help": "of the generating process; the paper's 4000"}),
    ("--noise", {"type": float, "default": 0.1, "help": "left at its end, standard deviations"}),
)


def write_stand_in(folder: Path, n_images: int = 1797) -> Path:
    """scikit-learn's digits in MNIST's format: n images of 28 x 28 bytes, white on black, gzip."""
    images = np.stack([np.pad(zoom(image, 3, order=1), 2) for image in load_digits().images])
    pixels = np.clip(np.round(images[:n_images] * 255 / 16), 0, 255).astype(np.uint8)
    header = bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{FILE}.gz"
    path.write_bytes(gzip.compress(header + pixels.tobytes()))
    return path


def find_images(folder: Path) -> Path:
    """The training images in a folder, compressed or not."""
    for path in (folder / FILE, folder / f"{FILE}.gz"):
        if path.is_file():
            return path
    raise SystemExit(f"expected {FILE} or {FILE}.gz in {folder}: copy MNIST's files there.")


def main(argv=None) -> None:
    args = arguments(__doc__, argv, *OPTIONS)
    watch = Stopwatch()
    setting = QUICK if args.quick else STAND_IN if args.folder is None else PAPER
    setting = setting | {
        name: given
        for name in ("epochs", "width", "n_steps")
        if (given := getattr(args, name)) is not None
    }
    if args.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            data = load_images(write_stand_in(Path(folder), 80 if args.quick else 1797))
    else:
        data = load_images(find_images(args.folder))
    data = data[: args.n_images]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kept = round(0.9 * len(data))  # the rest decides which weights are best
    max_iter = max(1, setting["epochs"] * kept // BATCH)
    print(f"{setting}, batches of {BATCH}, {max_iter} training steps, on {device.type}")
    model = Diffusion(
        image_shape=data.shape[1:],
        width=setting["width"],
        batch_size=BATCH,
        max_iter=max_iter,
        random_state=0,
    )
    found = generate(data, model, setting["m"], setting["n_steps"], args.noise)
    figure2.draw(found, args.out, "mnist_exponents")
    figure5.draw(found, args.out, "mnist_vectors")
    print(f"{watch:.0f} s, {watch.processor():.0f} s of processor time")


if __name__ == "__main__":
    main()
