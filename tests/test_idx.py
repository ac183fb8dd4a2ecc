"""IDX files: what was written is read back exactly; what is none is refused with the cause."""

import gzip

import numpy as np
import pytest

from alignlearn.datasets import load_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
SHAPES = [(7,), (3, 4, 5), (0, 2), (2, 1, 3, 1)]


def idx_bytes(array):
    """The array in the format, from its description (http://yann.lecun.com/exdb/mnist)."""
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim])
    lengths = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return header + lengths + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    return path


IMAGES = np.arange(24, dtype="u1").reshape(2, 3, 4)
GOOD = idx_bytes(IMAGES)
BAD = {
    "empty": (b"", "no IDX file.*empty file"),
    "short magic": (GOOD[:3], "no IDX file"),
    "bad magic": (b"\x89PNG" + GOOD, "no IDX file.*89 50 4e 47"),
    "wrong type": (b"\0\0\x0a" + GOOD[3:], "type 0x0A"),
    "no axes": (b"\0\0\x08\0" + GOOD[4:], "0 axes"),
    "too many axes": (b"\0\0\x08\xff" + bytes(4 * 255), "255 axes"),
    "header cut": (GOOD[:10], "ends within its header"),
    "truncated": (GOOD[:-1], r"24 bytes, and has only 23.*truncated"),
    "longer": (GOOD + b"\0", "24 bytes, and has more"),
    "huge": (GOOD[:4] + b"\xff" * 12, "more than max_bytes"),
    "huge with an empty axis": (GOOD[:4] + b"\xff" * 8 + bytes(4) + b"\1", "has more"),
    "declares 1 GiB": (GOOD[:4] + b"\0\0\4\0" * 3 + bytes(9), "has only 9"),
    "gzip cut": (gzip.compress(GOOD)[:-9], "damaged or truncated gzip"),
    "gzip damaged": (gzip.compress(GOOD)[:-8] + bytes(8), "damaged or truncated gzip"),
    "gzip header alone": (b"\x1f\x8b", "damaged or truncated gzip"),
    "gzip of something else": (gzip.compress(b"hello"), "no IDX file"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("code", CODES)
def test_what_is_written_is_read_back_exactly(tmp_path, rng, code, shape, pack):
    array = (100 * rng.standard_normal(shape)).astype("i1" if code == "u1" else code).astype(code)
    read = load_idx(write(tmp_path, pack(idx_bytes(array))))
    np.testing.assert_array_equal(read, array, strict=True)
    assert read.dtype.isnative and read.flags.writeable


@pytest.mark.parametrize(("data", "cause"), BAD.values(), ids=BAD)
def test_what_is_no_idx_file_is_refused_with_the_cause(tmp_path, data, cause):
    with pytest.raises(ValueError, match=cause) as error:
        load_idx(write(tmp_path, data))
    assert "file" in str(error.value)


def test_zip_bomb_is_read_no_further_than_it_declares(tmp_path, monkeypatch):
    read = []
    original = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile, "read", lambda *args: read.append(original(*args)) or read[-1]
    )
    with pytest.raises(ValueError, match="has more"):
        load_idx(write(tmp_path, gzip.compress(GOOD + bytes(1 << 26))))
    assert sum(map(len, read)) == len(GOOD) + 1


def test_larger_files_are_read_if_asked_for(tmp_path):
    with pytest.raises(ValueError, match="max_bytes = 23"):
        load_idx(write(tmp_path, GOOD), max_bytes=23)
    np.testing.assert_array_equal(load_idx(write(tmp_path, GOOD), max_bytes=24), IMAGES)


def test_folders_and_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="folder"):
        load_idx(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_idx(tmp_path / "none")
