"""Files that cells name in ways other than their own; files written whole or not at all; hashes."""

import hashlib
import os
from unicodedata import normalize

import pytest

from cotrain.data.files import find_file, is_file, sha256, write_whole

NFC, NFD = (normalize(form, "Hünd é.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("there", "cell"),
    [
        ("a.png", " a.png "),
        (" a.png", " a.png"),
        ("in/a b.png", "in\\a b.png"),
        ("a\\b.png", "a\\b.png"),
        (NFC, NFD),
        (NFD, NFC),
        (f"in/{NFD}", f" in\\{NFC}"),
    ],
)
def test_the_file_is_found(tmp_path, there, cell):
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert find_file(cell, tmp_path).samefile(path)


@pytest.mark.parametrize("cell", ["gone.png", " gone.png", "", "a" * 5_000, "a\0b"])
def test_what_is_not_there_keeps_its_name(tmp_path, cell):
    assert find_file(cell, tmp_path) == tmp_path / cell.strip()
    assert not is_file(find_file(cell, tmp_path))


@pytest.mark.parametrize("content", ["Hünd\n", b"\x00\r\n"])
def test_written_whole(tmp_path, content):
    path = tmp_path / "a.txt"
    for text in ("before", content):
        write_whole(path, text)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="modes and links")
def test_a_file_that_is_written_anew_keeps_its_mode_and_its_link(tmp_path):
    path, link = tmp_path / "in" / "a.txt", tmp_path / "link"
    path.parent.mkdir()
    path.touch()
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, "new")
    assert link.is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)


def test_what_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_whole(path, "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")

    def full(*paths):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == [path.name]
