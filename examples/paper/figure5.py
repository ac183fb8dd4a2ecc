"""Figure 5: a digit as it is generated, its Lyapunov vectors, and the digit moved along them.

python examples/paper/figure5.py [--idx FILE] [--out FOLDER] [--quick]
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from images import OPTIONS, Generated, generated
from shared import Stopwatch, arguments, save


def roughness(v: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels in units of twice the mean square: noise 1."""
    across, down = np.diff(v, axis=-1) ** 2, np.diff(v, axis=-2) ** 2
    return float((across.mean() + down.mean()) / (4 * (v**2).mean()))


def draw(found: Generated, folder: Path, name: str = "figure5") -> None:
    """Print the numbers and draw the picture of a generated image."""
    k, m = found.frame.exponents.shape[1], len(found.images)
    indices = [1, 2, 20, 50, 100] if k >= 100 else [1, 2, k // 6, k // 2, k - 4]
    print(f"\nroughness of the vectors, median of {m} images (white noise: 1; images:", end=" ")
    print(f"{roughness(found.data - found.data.mean(0)):.2f})")
    for index in indices:
        rough = [roughness(found.vector(row, index)) for row in range(m)]
        print(f"vector {index:3d}  {np.median(rough):.2f}")

    shown = found.typical[1]
    figure, axes = plt.subplots(3, len(indices), figsize=(7, 4.6), layout="constrained")
    schedule, times = found.flow.solver.schedule, found.flow.times
    noises = np.geomspace(4.0, float(schedule.ratio(times[-1])), len(indices))
    for ax, s in zip(axes[0], noises, strict=True):
        i = int(torch.argmin((schedule.ratio(times) - s).abs()))
        y = found.trajectory.states[i, shown : shown + 1] / float(schedule.alpha(times[i]))
        ax.imshow(found.decode(y)[0], cmap="gray_r")
        ax.set_title(f"noise {s:.2g}", fontsize=9)
    for ax_v, ax_moved, index in zip(axes[1], axes[2], indices, strict=True):
        v = found.vector(shown, index)
        ax_v.imshow(v, cmap="PuOr", vmin=-np.abs(v).max(), vmax=np.abs(v).max())
        ax_v.set_title(f"vector {index}", fontsize=9)
        ax_moved.imshow(found.moved(shown, index), cmap="gray_r", vmin=0, vmax=found.top)
        ax_moved.set_title(f"moved along {index}", fontsize=9)
    for ax in axes.flat:
        ax.set_xticks([]), ax.set_yticks([])
    for ax, label in zip(axes[:, 0], ("generation", "vectors", "moved digit"), strict=True):
        ax.set_ylabel(label, fontsize=9)
    save(figure, folder, name)


def main(argv=None) -> None:
    args = arguments(__doc__, argv, *OPTIONS)
    watch = Stopwatch()
    print("Figure 5: images, PaperCosine, Euler-Maruyama")
    draw(generated(args.idx, args.max_iter, args.n_images, args.quick), args.out)
    print(f"{watch:.0f} s, {watch.processor():.0f} s of processor time")


if __name__ == "__main__":
    main()
