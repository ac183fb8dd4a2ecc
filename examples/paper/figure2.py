"""Figure 2: a generated digit moved along its first and along a late vector; the exponents.

python examples/paper/figure2.py [--idx FILE] [--out FOLDER] [--quick]
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from images import OPTIONS, Generated, generated
from scipy.spatial.distance import cdist
from shared import BLUE, ORANGE, Stopwatch, arguments, save


def moved_distances(found, indices) -> None:
    """Print how far generated images are from real ones, as they are and moved."""
    data = found.data.reshape(len(found.data), -1).astype(float)
    images = found.images.reshape(len(found.images), -1)
    between = cdist(data[:500], data[:500])
    np.fill_diagonal(between, np.inf)
    real = np.median(between.min(1))
    print(f"\nmedian distance to the nearest real image, after a step of {found.step:.1f}")
    print(f"of {len(images)} generated images; between real ones it is {real:.1f}")
    print(f"no step      {np.median(cdist(images, data).min(1)):6.2f}")
    for index in indices:
        v = found.frame.vectors[:, :, index - 1].numpy()
        both = np.concatenate([images + found.step * v, images - found.step * v])
        print(f"vector {index:3d}   {np.median(cdist(both, data).min(1)):6.2f}")


def draw(found: Generated, folder: Path, name: str = "figure2") -> None:
    """Print the numbers and draw the picture of generated images."""
    k = found.frame.exponents.shape[1]
    late = 100 if k >= 100 else round(0.9 * k)
    moved_distances(found, [i for i in (1, 2, 5, 10, 20, 30, 40, 50, 58, 100) if i <= k])
    spectrum = found.frame.exponents.mean(0).numpy()
    sweep = np.sort(found.sweep.exponents.mean(0).numpy())[::-1]
    print("\nmean exponents at 1, 5, 10, 20, 40, last: ", end="")
    print(spectrum[[i - 1 for i in (1, 5, 10, 20, 40, k) if i <= k]].round(3))
    print("log |diag R| of one QR sweep:             ", end="")
    print(sweep[[i - 1 for i in (1, 5, 10, 20, 40, k) if i <= k]].round(3))
    gaps = spectrum[:-1] - spectrum[1:]
    largest = np.argsort(gaps)[::-1][:5]
    print("largest gaps:", ", ".join(f"{gaps[i]:.3f} after {i + 1}" for i in largest))
    print(f"median gap {np.median(gaps):.4f}; sum of exponents {spectrum.sum():.1f}")

    figure = plt.figure(figsize=(7.5, 4.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    row = found.typical[0]
    noise = found.decode(found.trajectory.states[:1, row])[0]
    image = found.images[row]
    pictures = {
        "noise": noise,
        "generated": image,
        "moved along vector 1": found.moved(row, 1),
        f"moved along vector {late}": found.moved(row, late),
    }
    for ax, (title, picture) in zip(top.subplots(1, 4), pictures.items(), strict=True):
        limits = (None, None) if title == "noise" else (0, found.top)
        ax.imshow(picture, cmap="gray_r", vmin=limits[0], vmax=limits[1])
        ax.set_xticks([]), ax.set_yticks([])
        ax.set_title(title, fontsize=9)
    ax = bottom.subplots()
    index = np.arange(1, k + 1)
    ax.plot(index, spectrum, "o", ms=3.5, color=BLUE, label="converged")
    ax.plot(index, sweep, "^", ms=3, color=ORANGE, label="one QR sweep, log |diag R|")
    ax.set(xlabel="index", ylabel="exponent (normal: -1)")
    ax.legend(fontsize=8)
    save(figure, folder, name)


def main(argv=None) -> None:
    args = arguments(__doc__, argv, *OPTIONS)
    watch = Stopwatch()
    print("Figure 2: images, PaperCosine, Euler-Maruyama")
    draw(generated(args.idx, args.max_iter, args.n_images, args.quick), args.out)
    print(f"{watch:.0f} s, {watch.processor():.0f} s of processor time")


if __name__ == "__main__":
    main()
