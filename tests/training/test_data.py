"""Data files are looked for in order, downloaded only when nowhere near, and never taken unchecked from the net."""

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest

from training import MissingData
from training.data import DataFile, cache_folder, digest_of, find

CONTENT = b"a,b\n1,2\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path):
    """A web site on this machine that holds data.csv."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "data.csv").write_bytes(CONTENT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/data.csv"
        server.shutdown()
        thread.join()


def file(url="http://127.0.0.1:9/data.csv", content=CONTENT):
    return DataFile("data.csv", url, hashlib.sha256(content).hexdigest())


def put(folder, content=CONTENT):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.csv").write_bytes(content)
    return folder / "data.csv"


def test_the_named_folder_comes_before_the_environment_and_that_before_the_cache(tmp_path, monkeypatch):
    cached = put(cache_folder())
    assert find(file()) == cached
    told = put(tmp_path / "told")
    monkeypatch.setenv("GLASSHOUSE_DATA", str(tmp_path / "told"))
    assert find(file()) == told
    named = put(tmp_path / "named")
    assert find(file(), tmp_path / "named") == named


def test_a_folder_without_the_file_is_refused_in_one_line_when_it_was_named_for_it(tmp_path):
    put(cache_folder())
    with pytest.raises(MissingData, match=r"data\.csv is not in the data folder .*named") as caught:
        find(file(), tmp_path / "named")
    assert "\n" not in str(caught.value)


def test_a_download_lands_in_the_cache_once(site):
    path = find(file(site))
    assert path == cache_folder() / "data.csv"
    assert path.read_bytes() == CONTENT
    assert find(file("http://127.0.0.1:9/gone.csv")) == path


def test_a_download_with_another_digest_is_refused_and_not_kept(site):
    with pytest.raises(MissingData, match="its digest differs"):
        find(file(site, content=b"something else"))
    assert not (cache_folder() / "data.csv").exists()


def test_without_internet_one_line_says_what_is_missing_and_where_it_goes():
    with pytest.raises(
        MissingData, match=r"data\.csv is missing .*ConnectionError.* put it in .*GLASSHOUSE_DATA"
    ) as caught:
        find(file())
    assert str(cache_folder()) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_identity_of_arrays_is_their_dtype_shape_and_values():
    rows = np.arange(6, dtype=np.float64).reshape(2, 3)
    same = digest_of(rows.copy())
    assert digest_of(rows) == same
    assert digest_of(np.asfortranarray(rows)) == same
    others = [rows.reshape(3, 2), rows.astype(np.float32), rows + 1]
    assert same not in {digest_of(other) for other in others}
    assert len({digest_of(other) for other in others}) == 3
