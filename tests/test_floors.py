"""Imports go down, read from the source; and what `import alignlearn` loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import alignlearn

ROOT = Path(alignlearn.__file__).parent
FLOORS = [
    [
        "schedules",
        "solvers",
        "dimension",
        "metrics",
        "paths",
        "couplings",
        "sources",
        "_lazy",
        "_linalg",
        "_replay",
        "guards",
        "derivatives",
        "_blocks",
    ],
    ["flow", "clocks", "predictions", "tabulated"],
    ["tangent", "networks", "unet", "gaussian", "mixture", "curves"],
    [
        "models",
        "training",
        "denoising",
        "alignment",
        "checkpoint",
        "coordinates",
        "datasets",
        "embedding",
        "frames",
        "geodesics",
        "matching",
        "measurement",
        "neighbors",
        "projection",
        "scales",
        "streaming",
        "tangent_graph",
        "_arrays",
        "_callbacks",
        "_files",
        "_journal",
        "_params",
        "_plain",
        "_rows",
        "_tables",
        "_team",
    ],
    [
        "manifold",
        "boundary",
        "doors",
        "margins",
        "perturbations",
        "support",
        "robustness",
        "support_shift",
        "response",
        "scoring",
        "persistence",
        "report",
    ],
    ["plotting", "__main__"],
]
OPTIONAL = [
    "matplotlib",
    "rich",
    "pandas",
    "pyarrow",
    "diffusers",
    "skops",
    "dask",
    "skdim",
    "umap",
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path.name != "__init__.py")
every_file = pytest.mark.parametrize("file", FILES, ids=str)


def module_of(file):
    """Name in `FLOORS` of a file: its own, or that of its folder."""
    name = file.parts[0].removesuffix(".py")
    assert name in FLOOR_OF, f"{file} has no floor yet: enter it in FLOORS of tests/test_floors.py"
    return name


def imports(file):
    """Full names imported by a file, also inside functions."""
    tree = ast.parse((ROOT / file).read_text())
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def own_imports(file):
    """Names in `FLOORS` of the library's own modules that a file imports."""
    parts = [name.split(".") for name in imports(file)]
    inner = [p[1] for p in parts if p[0] == "alignlearn"]
    return {name for name in inner if (ROOT / name).is_dir() or (ROOT / f"{name}.py").exists()}


@every_file
def test_imports_go_down(file):
    floor = FLOOR_OF[module_of(file)]
    too_high = {name for name in own_imports(file) if FLOOR_OF[name] > floor}
    assert not too_high, f"{file} on floor {floor} imports {too_high}"


def test_no_two_modules_import_each_other():
    """Also within a floor: repeatedly take away what imports nothing that is left."""
    left = {}
    for file in FILES:
        left.setdefault(module_of(file), set()).update(own_imports(file) - {module_of(file)})
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        assert free, f"a cycle of imports among {sorted(left)}"
        for name in free:
            del left[name]


@every_file
def test_lower_floors_do_not_import_scikit_learn(file):
    if FLOOR_OF[module_of(file)] > 2:
        pytest.skip("scikit-learn's contract begins on floor 3")
    assert not [name for name in imports(file) if name.split(".")[0] == "sklearn"]


@every_file
def test_only_derivatives_differentiates_a_map(file):
    """`torch.func` in one place, and with it the lock that forward mode needs."""
    source = (ROOT / file).read_text()
    assert ("torch.func." in source) == (file.name == "derivatives.py")


def test_import_works_without_any_optional_package_and_asks_for_none():
    """As if none were installed; scikit-learn, before, may ask for what it likes."""
    code = f"""
import sys

class Absent:
    asked = []

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL}:
            self.asked.append(name)
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch, sklearn.neighbors
try: import sklearn.callback
except ImportError: pass
Absent.asked.clear()
from alignlearn import *
from alignlearn.models import *
print(Absent.asked)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
