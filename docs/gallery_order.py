"""Order of the gallery: as one would read it, then what is not named here by its file name."""

READING = [
    "lyapunov_vectors",
    "tangent_planes",
    "spectrum",
    "local_dimension",
    "dimension_by_scale",
    "digits_moves",
    "image_scenes",
    "embedding",
    "denoise",
    "training",
    "pretrained",
    "pipeline",
]


class ByReading:
    """Sort key, as sphinx-gallery asks for it: made from the folder, called with a file name."""

    def __init__(self, src_dir):
        self.src_dir = src_dir

    def __call__(self, filename):
        """Place in `READING`, the rest behind it."""
        name = filename.removeprefix("plot_").removesuffix(".py")
        return READING.index(name) if name in READING else len(READING), name
