"""Files that cells name in ways other than their own."""

from unicodedata import normalize

import pytest

from cotrain.data.files import find_file, is_file

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
