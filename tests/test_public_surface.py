"""Every public name says in numpydoc what it takes and gives, as its signature has it."""

import importlib
import inspect
import pkgutil
import re
from dataclasses import is_dataclass

import pytest
from sklearn.base import BaseEstimator
from tables import INNER, MODELS

import alignlearn
from alignlearn import LyapunovManifold
from alignlearn.datasets import make_sphere

# The parts of models are listed, but few users need to know them.
INTERNAL = INNER | {"denoising", "networks", "training", "unet"}


def public_modules():
    """Modules of the library and its packages, without what starts with an underscore."""
    names = [name for _, name, _ in pkgutil.iter_modules(alignlearn.__path__)]
    names = [name for name in names if not name.startswith("_") and name not in INTERNAL]
    return [alignlearn, *(importlib.import_module(f"alignlearn.{name}") for name in names)]


def is_public(thing):
    own = str(getattr(thing, "__module__", "")).split(".")[0] == "alignlearn"
    return own and (inspect.isclass(thing) or inspect.isfunction(thing))


def public_names(module):
    """``__all__`` of a package; of a file what it defines."""
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    own = {name: x for name, x in vars(module).items() if not name.startswith("_")}
    return {n: x for n, x in own.items() if getattr(x, "__module__", "") == module.__name__}


OBJECTS = {
    thing.__qualname__: thing
    for module in public_modules()
    for thing in public_names(module).values()
    if is_public(thing)
}
CLASSES = {name: thing for name, thing in OBJECTS.items() if inspect.isclass(thing)}
FUNCTIONS = {name: thing for name, thing in OBJECTS.items() if name not in CLASSES}
METHODS = {
    method.__qualname__: method
    for thing in CLASSES.values()
    for name, member in vars(thing).items()
    if not name.startswith("_")
    and inspect.isfunction(method := getattr(member, "__func__", member))
}
ESTIMATORS = {n: c for n, c in CLASSES.items() if issubclass(c, BaseEstimator)}


def every(table):
    return pytest.mark.parametrize("thing", table.values(), ids=table)


def section(thing, title):
    """Lines of a section of the docstring, None if there is none."""
    text = inspect.cleandoc(thing.__doc__ or "")
    found = re.search(
        rf"^{title}\n-{{{len(title)}}}\n(.*?)(?=^\S[^\n]*\n---|\Z)", text, re.M | re.S
    )
    return None if found is None else found[1].splitlines()


def documented(thing, title="Parameters"):
    """Names that a section documents: ``a, b : type`` at the margin; None without the section."""
    lines = section(thing, title)
    if lines is None:
        return None
    heads = [line.split(" : ")[0] for line in lines if line and not line[0].isspace()]
    return [name.strip(" *") for head in heads for name in head.split(",")]


def arguments(thing):
    """Parameters of the signature, without `self` and `cls`."""
    return [n for n in inspect.signature(thing).parameters if n not in ("self", "cls")]


def test_walk_finds_what_everybody_uses():
    expected = {"LyapunovManifold", "Diffusion", "make_torus", "tangent_error", "Heun", "Cosine"}
    assert expected <= OBJECTS.keys()
    assert {"LyapunovManifold.fit", "Flow.from_denoiser"} <= METHODS.keys()


@every(OBJECTS | METHODS)
def test_public_name_has_a_summary_that_ends(thing):
    """A method that overrides another one may leave the words to it: `inspect.getdoc`."""
    summary = (inspect.getdoc(thing) or _inherited(thing)).split("\n\n")[0]
    assert summary.rstrip().endswith((".", "`", ":")), summary


def _inherited(method):
    """Docstring of the method that this one overrides."""
    owner = CLASSES.get(method.__qualname__.split(".")[0], object)
    return inspect.getdoc(getattr(owner, method.__name__, None)) or ""


@every(FUNCTIONS)
def test_function_documents_its_parameters_and_what_it_returns(thing):
    assert documented(thing) == arguments(thing)
    if inspect.signature(thing).return_annotation not in (None, "None"):
        assert section(thing, "Returns") or section(thing, "Yields")


@every(METHODS)
def test_method_documents_all_of_its_parameters_or_none(thing):
    """One line is enough where the class says what the letters are."""
    if documented(thing) is not None:
        assert documented(thing) == arguments(thing)


@every(CLASSES)
def test_class_documents_the_parameters_of_its_constructor(thing):
    """What only holds results, a NamedTuple or a dataclass, may call its fields attributes."""
    if not inspect.isabstract(thing):
        is_record = hasattr(thing, "_fields") or is_dataclass(thing)
        names = documented(thing) or (documented(thing, "Attributes") if is_record else None)
        assert (names or []) == arguments(thing)


EXAMPLES = ESTIMATORS | {name: f for name, f in FUNCTIONS.items() if name.startswith("make_")}


@every(EXAMPLES)
def test_estimator_and_data_set_show_an_example(thing):
    """Which runs, with the other doctests."""
    if not inspect.isabstract(thing):
        assert ">>> " in "\n".join(section(thing, "Examples") or [])


FITTED = MODELS | {"LyapunovManifold": lambda: LyapunovManifold(model=MODELS["GaussianModel"]())}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("make_model", FITTED.values(), ids=FITTED)
def test_fitted_attributes_are_documented(make_model):
    estimator = make_model()
    fitted = vars(estimator.fit(make_sphere(40, 2, random_state=0).points))
    learned = {name for name in fitted if name.endswith("_") and not name.startswith("_")}
    words = {name for c in type(estimator).__mro__ for name in documented(c, "Attributes") or []}
    assert learned <= words
