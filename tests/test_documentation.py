"""The site names what there is: every public name once, every link a file, every script sound."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
from tables import INNER

import alignlearn

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MODULES = sorted(
    f"alignlearn.{path.stem}"
    for path in (ROOT / "alignlearn").glob("[!_]*")
    if path.stem not in INNER and (path.suffix == ".py" or (path / "__init__.py").exists())
)
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("guide/*.md"))]
SCRIPTS = sorted((ROOT / "examples").glob("plot_*.py"))


def listed():
    """Names of the API page, module by module, with repetitions."""
    names, module = {}, None
    for line in (DOCS / "api.rst").read_text().splitlines():
        if match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = names.setdefault(match[1], [])
        elif match := re.match(r"   ([A-Za-z]\w*)$", line):
            module.append(match[1])
    return names


def public_names(name):
    """What a module exports in `__all__`, or else defines, without an underscore."""
    module = importlib.import_module(name)
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
    )


@pytest.mark.parametrize("module", MODULES)
def test_api_page_has_every_public_name_once(module):
    names, exported = listed().get(module, []), listed()["alignlearn"]  # as users import it
    names = names + [n for n in exported if getattr(alignlearn, n).__module__ == module]
    assert sorted(names) == public_names(module)


def test_api_page_has_no_module_that_is_inner_or_gone():
    assert set(listed()) <= {"alignlearn", *MODULES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    files = [t for t in targets if "://" not in t]
    for target in files:
        made = re.sub(r"auto_examples/(plot_\w+)\.(rst|html)", r"../examples/\1.py", target)
        made = made.replace("auto_examples/index.rst", "../examples/GALLERY_HEADER.rst")
        assert (page.parent / made).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_of_pages_have_a_script(page):
    for name in re.findall(r"sphx_glr_(plot_\w+)_\d{3}\.png", page.read_text()):
        assert (ROOT / "examples" / f"{name}.py").exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_gallery_script_has_a_title_a_paragraph_a_picture_and_names_that_exist(script):
    tree = ast.parse(script.read_text())
    title, line, _, paragraph = ast.get_docstring(tree).split("\n", 3)
    assert line == "=" * len(title) and len(paragraph) > 200
    assert script.read_text().rstrip().splitlines().count("plt.show()") >= 1
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "alignlearn":
            module = importlib.import_module(node.module)
            assert not [a.name for a in node.names if not hasattr(module, a.name)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_pages_compiles(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(block, page.name, "exec")
