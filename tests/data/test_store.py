import gzip
import hashlib
import http.server
import threading
import zipfile
from functools import partial

import pytest

from cotrain.data.store import DatasetMissing, members, open_file, resolve
from cotrain.errors import CotrainError

CONTENT = b"one,two\n1,2\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("COTRAIN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COTRAIN_CACHE", str(tmp_path / "cache"))
    for folder in ("data/things", "cache/things", "origin"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def origin(folders):
    """A web server on this machine that serves the folder `origin`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folders / "origin")))
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def digest(contents: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in sorted(contents.items()):
        total.update(name.encode() + b"\0" + len(content).to_bytes(8, "little") + content)
    return total.hexdigest()


def pack(path, contents: dict[str, bytes], prefix: str = "") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(prefix + name, content)


def test_data_folder_comes_before_the_cache(folders):
    for folder in ("data", "cache"):
        (folders / folder / "things" / "table.csv").write_bytes(CONTENT)
    assert (
        resolve("things", "table.csv", "http://nowhere.invalid/table.csv", SHA256) == folders / "data/things/table.csv"
    )
    (folders / "data/things/table.csv").unlink()
    assert (
        resolve("things", "table.csv", "http://nowhere.invalid/table.csv", SHA256) == folders / "cache/things/table.csv"
    )


def test_a_repacked_file_has_its_own_hash_and_opens_as_the_original(folders):
    packed = gzip.compress(CONTENT)
    (folders / "data/things/table.csv.gz").write_bytes(packed)
    path = resolve(
        "things",
        "table.csv.gz",
        "http://nowhere.invalid/table.csv",
        SHA256,
        stored_sha256=hashlib.sha256(packed).hexdigest(),
    )
    with open_file(path) as file:
        assert file.read() == CONTENT


def test_the_original_is_accepted_under_its_own_name(folders):
    (folders / "data/things/table.csv").write_bytes(CONTENT)
    path = resolve("things", "table.csv.gz", "http://nowhere.invalid/table.csv", SHA256, stored_sha256="0" * 64)
    with open_file(path) as file:
        assert file.read() == CONTENT


def test_another_file_of_that_name_is_refused(folders):
    (folders / "data/things/table.csv").write_bytes(b"something else")
    with pytest.raises(DatasetMissing, match=f"{SHA256}"):
        resolve("things", "table.csv", "http://nowhere.invalid/table.csv", SHA256)


def test_download_into_the_cache_once(folders, origin):
    (folders / "origin/table.csv").write_bytes(CONTENT)
    path = resolve("things", "table.csv", f"{origin}/table.csv", SHA256)
    assert path == folders / "cache/things/table.csv"
    assert path.read_bytes() == CONTENT
    (folders / "origin/table.csv").unlink()
    assert resolve("things", "table.csv", f"{origin}/table.csv", SHA256) == path


def test_a_download_with_another_hash_is_refused_and_not_kept(folders, origin):
    (folders / "origin/table.csv").write_bytes(b"tampered")
    with pytest.raises(DatasetMissing, match="hash"):
        resolve("things", "table.csv", f"{origin}/table.csv", SHA256)
    assert not list((folders / "cache/things").iterdir())


def test_without_a_known_hash_nothing_is_downloaded(folders, origin):
    (folders / "origin/table.csv").write_bytes(CONTENT)
    with pytest.raises(DatasetMissing) as error:
        resolve("things", "table.csv", f"{origin}/table.csv", None, stored_sha256="0" * 64)
    for part in ("COTRAIN_DATA", str(folders / "data"), "things", f"{origin}/table.csv", "hash of the origin's file"):
        assert part in str(error.value)
    assert isinstance(error.value, CotrainError)


def test_the_error_says_when_the_variable_is_not_set_and_the_origin_cannot_be_reached(monkeypatch):
    monkeypatch.delenv("COTRAIN_DATA")
    with pytest.raises(DatasetMissing, match=r"cannot be reached.*COTRAIN_DATA is not set"):
        resolve("things", "table.csv", "http://127.0.0.1:1/table.csv", SHA256)


def test_members_are_the_same_whoever_packed_them(folders, origin):
    contents = {"sounds/b.wav": b"bbb", "sounds/a.wav": b"a"}
    expected = {"sounds/a.wav": b"a", "sounds/b.wav": b"bbb"}
    arguments = {"pattern": r"sounds/\w\.wav$", "sha256": digest(contents)}
    pack(folders / "origin/master.zip", {**contents, "README.md": b"left out"}, prefix="project-master/")

    downloaded = members("things", "sounds.zip", f"{origin}/master.zip", **arguments)
    assert list(downloaded.items()) == list(expected.items())
    pack(folders / "data/things/sounds.zip", contents)
    assert members("things", "sounds.zip", "http://nowhere.invalid/master.zip", **arguments) == expected


def test_other_members_are_refused_and_a_download_of_them_is_not_kept(folders, origin):
    pack(folders / "origin/master.zip", {"sounds/a.wav": b"changed"})
    with pytest.raises(DatasetMissing, match="other contents"):
        members("things", "s.zip", f"{origin}/master.zip", pattern="sounds/.*", sha256=digest({"sounds/a.wav": b"a"}))
    assert not list((folders / "cache/things").iterdir())
    (folders / "origin/master.zip").write_bytes(b"<html>Log in first</html>")
    with pytest.raises(DatasetMissing, match="cannot be read"):
        members("things", "s.zip", f"{origin}/master.zip", pattern="sounds/.*", sha256="0" * 64)
    assert not list((folders / "cache/things").iterdir())
    (folders / "data/things/s.zip").write_bytes(b"no zip at all")
    with pytest.raises(DatasetMissing, match="cannot be read"):
        members("things", "s.zip", f"{origin}/master.zip", pattern="sounds/.*", sha256="0" * 64)
    assert (folders / "data/things/s.zip").exists()  # what a user put there stays
