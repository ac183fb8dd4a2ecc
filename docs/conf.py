"""Sphinx: `make docs`. Nothing is downloaded; ALIGNLEARN_DOCS_INTERSPHINX=1 links other sites."""

import os
import sys
import warnings
from pathlib import Path

import matplotlib

import alignlearn

matplotlib.use("agg")
sys.path.insert(0, str(Path(__file__).parent))  # gallery_order

project = "alignlearn"
author = "The alignlearn developers"
copyright = author
version = release = alignlearn.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
if os.environ.get("ALIGNLEARN_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # scikit-learn's, with links into its own site
    "exclude-members": "set_fit_request, set_score_request, set_output, set_transform_request",
}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
default_role = "literal"
highlight_language = "none"
templates_path = ["_templates"]
pygments_style = "friendly"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"(benchmarks|paper|__init__|extending)",
    "within_subsection_order": "gallery_order.ByReading",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "abort_on_example_error": False,
    "doc_module": ("alignlearn",),
    "backreferences_dir": "generated/backreferences",
    "inspect_global_variables": True,
}
# The figures and the benchmarks each have an all.py; neither is in the gallery.
suppress_warnings = ["sphinx_gallery.duplicate_filename"]
# Some examples show data without a clear dimension: they catch the warning where it is the point.
warnings.filterwarnings("ignore", message=".*Agg, and thus cannot be shown.*")

html_theme = "pydata_sphinx_theme"
html_title = "alignlearn"
html_static_path = ["_static"]
html_css_files = ["alignlearn.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": {"**": ["page-toc"], "when_it_fails": []},
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "benchmarks": [], "when_it_fails": []}
