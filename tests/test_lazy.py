"""Public names come when they are asked for."""

import subprocess
import sys

import pytest

import alignlearn
from alignlearn import models


@pytest.mark.parametrize("package", [alignlearn, models], ids=lambda package: package.__name__)
def test_public_names_are_there_and_listed(package):
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is getattr(package, name)
    with pytest.raises(AttributeError, match="no attribute 'Isomap'"):
        _ = package.Isomap


def printed(program):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_waits_for_nothing():
    assert printed("import sys, alignlearn; print('torch' in sys.modules)") == ["False"]


def test_an_estimator_waits_for_its_own_modules_and_modules_are_attributes():
    program = """import sys, alignlearn
alignlearn.LyapunovManifold
print(*(f"alignlearn.{name}" in sys.modules for name in ("manifold", "support", "persistence")))
print(alignlearn.datasets.make_torus.__name__)"""
    assert printed(program) == ["True", "False", "False", "make_torus"]
