"""The command line and the reading of tables: what it writes, and what it says when it cannot."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

import alignlearn.__main__ as cli
from alignlearn._tables import TableError, read_table

X = np.random.default_rng(0).standard_normal((6, 3)).round(3)


def write(path, text):
    path.write_text(text)
    return path


def csv_text(names="", rows=X, delimiter=","):
    lines = [delimiter.join(map(str, row)) for row in rows]
    return "\n".join(([names] if names else []) + lines) + "\n"


CSV = {
    "with names": (csv_text("a,b,c"), ("a", "b", "c")),
    "without names": (csv_text(), ("1", "2", "3")),
    "names that count": (csv_text("0,1,2"), ("0", "1", "2")),
    "semicolons": (csv_text("a;b;c", delimiter=";"), ("a", "b", "c")),
    "byte order mark, quotes, Windows lines, empty last line": (
        "\ufeff" + csv_text('"a","b","c"').replace("\n", "\r\n") + "\r\n",
        ("a", "b", "c"),
    ),
}


@pytest.mark.parametrize("text, columns", CSV.values(), ids=CSV)
def test_a_csv_gives_back_its_numbers_and_names(tmp_path, text, columns):
    table = read_table(write(tmp_path / "x.csv", text))
    np.testing.assert_array_equal(table.values, X)
    assert table.columns == columns
    assert table.notes == ()


def test_the_row_numbers_that_pandas_writes_are_left_out_and_said(tmp_path):
    pd = pytest.importorskip("pandas")
    pd.DataFrame(X, columns=list("abc")).to_csv(tmp_path / "x.csv")
    table = read_table(tmp_path / "x.csv")
    np.testing.assert_array_equal(table.values, X)
    assert table.columns == ("a", "b", "c")
    assert "row numbers" in table.notes[0]


def test_arrays_come_back_and_images_are_flattened(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    np.testing.assert_array_equal(read_table(tmp_path / "x.npy").values, X.astype(np.float32))
    images = np.arange(24).reshape(2, 3, 4)
    np.savez(tmp_path / "x.npz", images=images, other=X)
    table = read_table(tmp_path / "x.npz", key="images")
    np.testing.assert_array_equal(table.values, images.reshape(2, 12))
    assert "flattened" in table.notes[0]
    np.savez(tmp_path / "one.npz", X)
    np.testing.assert_array_equal(read_table(tmp_path / "one.npz").values, X)


def test_parquet_is_read_by_pandas(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pd.DataFrame(X, columns=list("abc")).to_parquet(tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    np.testing.assert_array_equal(table.values, X)
    assert table.columns == ("a", "b", "c")


def test_a_missing_optional_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match=r"pip install 'alignlearn\[table\]'"):
        read_table(tmp_path / "x.parquet")


BAD_CSV = {
    "text column with names": ("a,kind\n1,red\n2,blue\n", r"'kind' \(such as 'red'\)"),
    "text column without names": ("1,red\n2,blue\n", r"column '2' \(such as 'red'\)"),
    "one text cell": ("a,b\n1,2\n3,four\n", r"'b' \(such as 'four'\)"),
    "missing cell": ("a,b\n1,2\n3,\n", "missing value in row 2, column 'b'"),
    "infinite": ("a,b\n1,2\n3,inf\n", "infinite value in row 2, column 'b'"),
    "lines of different length": ("a,b\n1,2\n3\n", "line 3 has 1 cells"),
    "empty": ("\n", "empty"),
    "names only": ("a,b\n", "no rows"),
}


@pytest.mark.parametrize("text, message", BAD_CSV.values(), ids=BAD_CSV)
def test_a_csv_that_cannot_be_used_says_where_and_why(tmp_path, text, message):
    with pytest.raises(TableError, match=message):
        read_table(write(tmp_path / "x.csv", text))


BAD_ARRAYS = {
    "objects": (np.array([[1, "a"]], dtype=object), "Python objects"),
    "strings": (np.array([["1", "2"]]), "real numbers"),
    "complex": (np.ones((2, 2), dtype=complex), "real numbers"),
    "one axis": (np.ones(4), "n_samples, n_features"),
    "nan": (np.array([[1.0, np.nan]]), "missing value in row 1, column '2'"),
    "no rows": (np.ones((0, 3)), "empty"),
}


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("array, message", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_an_array_that_cannot_be_used_says_why(tmp_path, array, message, suffix):
    path = tmp_path / f"x.{suffix}"
    np.save(path, array) if suffix == "npy" else np.savez(path, array)
    with pytest.raises(TableError, match=message):
        read_table(path)


def test_files_that_are_not_what_they_should_be(tmp_path):
    with pytest.raises(TableError, match="no file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(TableError, match=r"unknown suffix '.xlsx', expected one of .csv"):
        read_table(write(tmp_path / "x.xlsx", ""))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(TableError, match="damaged"):
            read_table(write(tmp_path / name, "nonsense"))
    (tmp_path / "latin.csv").write_bytes("gr\u00f6\u00dfe\n1\n".encode("latin-1"))
    with pytest.raises(TableError, match="UTF-8"):
        read_table(tmp_path / "latin.csv")
    np.savez(tmp_path / "two.npz", a=X, b=X)
    with pytest.raises(TableError, match="--key: a, b"):
        read_table(tmp_path / "two.npz")
    with pytest.raises(TableError, match="no array 'c'"):
        read_table(tmp_path / "two.npz", key="c")


@pytest.fixture
def table(tmp_path):
    points = np.random.default_rng(1).standard_normal((60, 2))
    np.save(tmp_path / "plane.npy", np.c_[points, np.zeros(60)])
    return tmp_path / "plane.npy"


@pytest.fixture
def small_reading(monkeypatch):
    """Fewer points and paths, and of the digits only some, for time."""
    digits = load_digits()
    few = Bunch(data=digits.data[:300], target=digits.target[:300])
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: few)
    kind = cli.LyapunovManifold
    monkeypatch.setattr(
        cli,
        "LyapunovManifold",
        lambda **options: kind(n_reference=10, n_paths=1, n_steps=2, **options),
    )


def test_estimate_prints_the_report_and_writes_it(table, tmp_path, capsys, small_reading):
    folder = tmp_path / "new" / "folder"
    arguments = ["estimate", str(table), "--max-iter", "5", "--output", str(folder)]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    report = (folder / "report.txt").read_text()
    assert "60 rows, 3 features. Intrinsic dimension:" in report
    assert report.strip() in out
    assert str(folder / "spectrum.png") in out
    assert (folder / "spectrum.png").read_bytes().startswith(b"\x89PNG")


def test_estimate_prints_its_report_without_the_extras(
    table, tmp_path, capsys, monkeypatch, small_reading
):
    monkeypatch.setattr(cli, "_installed", lambda name: False)
    folder = tmp_path / "out"
    assert cli.main(["estimate", str(table), "--max-iter", "5", "--output", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "Intrinsic dimension" in out
    assert "pip install 'alignlearn[demo]'" in out
    assert [path.name for path in folder.iterdir()] == ["report.txt"]


def test_demo_writes_report_and_pictures_and_says_where(tmp_path, capsys, small_reading):
    assert cli.main(["demo", "--max-iter", "5", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "Dimension of each class" in out
    for name in ("report.txt", "spectrum.png", "moves.png", "generated.png"):
        assert (tmp_path / name).stat().st_size > 0
        assert str(tmp_path / name) in out


def test_demo_says_what_to_install_when_the_extras_are_not_there(
    tmp_path, capsys, monkeypatch, small_reading
):
    monkeypatch.setattr(cli, "_installed", lambda name: False)
    assert cli.main(["demo", "--max-iter", "5", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "pip install 'alignlearn[demo]'" in out
    assert "Intrinsic dimension" in out
    assert [path.name for path in tmp_path.iterdir()] == ["report.txt"]


def test_info_names_versions_and_extras(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for name in ("alignlearn", "torch", "device", "threads", "matplotlib"):
        assert f"\n{name}" in "\n" + out


WRONG = {
    "file": ["estimate", "absent.csv"],
    "constant data": ["estimate", "constant.npy"],
    "folder": ["estimate", "constant.npy", "--output", "constant.npy/x"],
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_what_the_user_can_put_right_is_one_line_and_code_2(
    arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    np.save("constant.npy", np.ones((5, 2)))
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("alignlearn: ") and "\n" not in error


def test_the_module_runs_without_traceback_and_leaves_matplotlib_unloaded():
    code = """
import runpy, sys
import alignlearn.plotting
sys.argv = ["alignlearn", "estimate", "absent.csv"]
try:
    runpy.run_module("alignlearn", run_name="__main__")
except SystemExit as stop:
    print(stop.code, "matplotlib" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["2", "False"]
    assert "Traceback" not in run.stderr and "absent.csv" in run.stderr
