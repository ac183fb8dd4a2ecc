"""Public names come when they are asked for."""

import importlib
import subprocess
import sys

import pytest

import alignlearn
from alignlearn import models
from alignlearn._lazy import names_of


@pytest.mark.parametrize("package", [alignlearn, models], ids=lambda package: package.__name__)
def test_public_names_are_there_and_listed(package):
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is getattr(package, name)
    with pytest.raises(AttributeError, match="no attribute 'Isomap'"):
        _ = package.Isomap


def test_importing_the_package_waits_for_nothing():
    command = [sys.executable, "-c", "import sys, alignlearn; print('torch' in sys.modules)"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_modules_are_attributes_too():
    assert names_of("alignlearn", {})[0]("curves") is importlib.import_module("alignlearn.curves")
