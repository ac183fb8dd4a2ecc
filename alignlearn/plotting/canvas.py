"""What the displays share: colours, axes to draw in, legends that hide nothing, checks."""

from __future__ import annotations

import numpy as np

# Okabe & Ito's colours, told apart by colour-blind readers too. Their yellow is faint on white; the
# last three, from the eighth class on, are as far from the others as these from one another.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6E6E6E"
_OKABE_ITO = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
COLORS = (*_OKABE_ITO, "#A50026", "#DDCC77", "#6A00A8")

WIDE = (7.0, 4.5)  # inches, a picture of curves


def new_figure(figsize):
    """A figure whose layout leaves room for labels and legends.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'alignlearn[plot]'.") from error
    return plt.figure(figsize=figsize, layout="constrained")


def axes_to_draw_in(ax, figsize, *, n_dims: int = 2):
    """The axes handed in, or those of a new figure.

    Raises
    ------
    ValueError
        If flat axes are handed in for three coordinates, or the other way round.
    """
    solid = n_dims == 3
    if ax is None:
        return new_figure(figsize).add_subplot(projection="3d" if solid else None)
    if (ax.name == "3d") != solid:
        wanted = "add_subplot(projection='3d')" if solid else "add_subplot()"
        raise ValueError(
            f"expected axes for {n_dims} coordinates, as from figure.{wanted}, got {ax.name!r}."
        )
    return ax


def plain_frame(ax) -> None:
    """Take away the two sides of the frame that carry no scale."""
    ax.spines[["top", "right"]].set_visible(False)


def legend_above(ax, **options) -> None:
    """Legend over the axes, where it hides nothing, in as few rows as their width allows.

    Where no layout engine makes room for it, the axes give up some of theirs, as for a colour bar.
    """
    options |= {"frameon": False, "loc": "lower left", "bbox_to_anchor": (0, 1.01)}
    options |= {"borderaxespad": 0, "columnspacing": 1.3, "alignment": "left"}
    n_labels = len(ax.get_legend_handles_labels()[1])
    n_rows, excess = 1, 2.0
    while excess > 1 and n_rows <= n_labels:
        legend = ax.legend(ncols=-(-n_labels // n_rows), **options)
        excess = legend.get_window_extent().width / ax.get_window_extent().width
        n_rows = max(n_rows + 1, int(excess))  # a row of that width needs as many at least
    if ax.figure.get_layout_engine() is None:
        box, taken = ax.get_position(), legend.get_window_extent().height
        height = box.height - taken / ax.figure.bbox.height
        ax.set_position([box.x0, box.y0, box.width, max(height, 0.5 * box.height)])


def equal_units(ax, shown: np.ndarray) -> None:
    """Limits that hold all points shown (n, 2 or 3), with the same units on every axis."""
    if shown.shape[1] == 2:
        ax.update_datalim(shown)
        ax.autoscale_view()
        ax.set_aspect("equal", adjustable="datalim")
        return plain_frame(ax)
    low, high = shown.min(axis=0), shown.max(axis=0)
    extent = (high - low).max() or 1.0
    room = np.maximum(1.08 * (high - low), 0.15 * extent)  # thin data keep their numbers apart
    starts = 0.5 * (low + high - room)
    # A copy, which matplotlib scales in place; smaller, for the layout ignores labels in space.
    ax.set_box_aspect(room.copy(), zoom=0.88)
    for name, start, length in zip("xyz", starts, room, strict=True):
        ax.set(**{f"{name}lim": (start, start + length)})
        ax.locator_params(name, nbins=max(2, round(5 * length / room.max())))


def name_axes(ax, names) -> None:
    """Names at two axes or three."""
    ax.set(**{f"{axis}label": name for axis, name in zip("xyz", names, strict=False)})


def finite_array(values, name: str, *axes: str) -> np.ndarray:
    """Values as a float64 array with as many axes as are named.

    Raises
    ------
    ValueError
        If the array has other axes, is empty, or is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != len(axes) or 0 in array.shape:
        shape = ", ".join(axes) + "," * (len(axes) == 1)
        raise ValueError(f"expected {name} of shape ({shape}), not empty, got {array.shape}.")
    if not np.isfinite(array).all():
        count = np.count_nonzero(~np.isfinite(array))
        raise ValueError(
            f"expected finite {name}, got {count} values that are NaN or infinite: leave them out."
        )
    return array


def quartiles(values: np.ndarray) -> np.ndarray:
    """Lower quartile, median and upper quartile over the rows, (3, ...)."""
    return np.quantile(values, [0.25, 0.5, 0.75], axis=0)


def band_label(n_points: int) -> str:
    """Name of the band between the outer two."""
    return f"middle half of {n_points} points" if n_points > 1 else "one point"
