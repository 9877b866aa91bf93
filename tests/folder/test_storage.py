"""A storage by its URI: files whole or not at all, asked again while it does not answer, refused with one message."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from storage_server import StorageServer

from mtlsearch.errors import ConfigError
from mtlsearch.folder import storage as room
from mtlsearch.folder.storage import Storage, StorageLost, check_usable, is_uri


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty one of each kind that can be had here."""
    uri = f"file://{tmp_path}/store" if request.param == "file" else request.getfixturevalue("s3_uri")
    return Storage(uri)


def test_a_place_is_a_uri_or_a_folder():
    assert [is_uri(place) for place in ("s3://a/b", "gs://a", "file:///a")] == [True] * 3
    assert [is_uri(place) for place in ("out", "a/b", "C:/x", Path("s3:/a"), "./s3://a")] == [False] * 5


def test_files_are_written_read_listed_replaced_and_removed(storage):
    assert (storage.below(), storage.read("a"), storage.entry("a")) == ({}, None, None)
    storage.write("a", b"1")
    storage.write("b/c", memoryview(b"22"))
    storage.write("a", b"333")
    assert {name: entry.size for name, entry in storage.below().items()} == {"a": 3, "b/c": 2}
    assert list(storage.below("b")) == ["b/c"]
    assert (storage.read("a"), storage.read("b/c")) == (b"333", b"22")
    storage.remove("a")
    storage.remove("a")
    assert list(storage.below()) == ["b/c"]


def test_a_folder_of_it_serves_as_checkpoints_files(storage):
    files = storage.files("trials/00001/checkpoint")
    assert files.names() == []
    files.write("x.pt", b"1")
    assert (files.names(), files.read("x.pt"), files.read("y.pt")) == (["x.pt"], b"1", None)
    files.remove("x.pt")
    assert files.names() == []


def test_its_clock_is_its_own_and_leaves_nothing_behind(storage):
    assert abs(storage.now() - time.time_ns()) < 5e9
    assert storage.below() == {}


def test_what_cannot_be_moved_to_its_place_leaves_nothing(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)  # a folder where the file should come
    storage = Storage(f"file://{tmp_path}").hasty()
    with pytest.raises(StorageLost):
        storage.write("a", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("s3://AKIA:hidden@bucket/a", "a login before its @"),
        ("s3://AKIA@bucket/a", "a login before its @"),
        ("s3://bucket/a?access_key=hidden&secret_key=hidden", "access_key, secret_key in its query"),
        ("abfs://account:hidden@container/a", "a login before its @"),
    ],
)
def test_secrets_in_a_uri_are_refused_and_not_said(uri, found):
    with pytest.raises(ConfigError, match=found) as error:
        Storage(uri)
    assert "hidden" not in str(error.value)
    assert "AKIA" not in str(error.value)


@pytest.mark.parametrize("uri", ["nosuch://bucket/a", "s3:///a", "s3://", "file://otherhost/a"])
def test_what_pyarrow_does_not_open_is_refused(uri):
    with pytest.raises(ConfigError, match="must"):
        Storage(uri)


@pytest.mark.slow
@pytest.mark.usefixtures("s3_uri")
def test_a_bucket_that_is_not_there_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"s3://nosuch/a must be a place that you may read and write, but.*bucket"):
        check_usable(Storage("s3://nosuch/a").hasty())


def test_a_place_that_cannot_be_written_is_refused():
    with pytest.raises(ConfigError, match="must be a place that you may read and write"):
        check_usable(Storage("file:///proc/experiments").hasty())


@pytest.mark.slow
def test_a_server_is_named_in_the_query(s3_server: StorageServer, monkeypatch):
    for name, value in s3_server.environment.items():
        if name != "AWS_ENDPOINT_URL":
            monkeypatch.setenv(name, value)
    storage = Storage(f"s3://bucket/named?endpoint_override={s3_server.url}&region=us-east-1")
    storage.write("a", b"1")
    assert storage.read("a") == b"1"


@pytest.mark.slow
def test_while_it_does_not_answer_it_is_asked_again(s3_server: StorageServer, s3_uri: str, capsys):
    storage = Storage(s3_uri)
    s3_server.stop()
    threading.Timer(9.0, s3_server.start).start()  # pyarrow itself tries for six seconds
    storage.write("a", b"1")
    assert storage.read("a") == b"1"
    assert capsys.readouterr().err.count("does not answer") == 1


@pytest.mark.slow
def test_when_patience_ends_it_is_lost(s3_server: StorageServer, s3_uri: str, monkeypatch):
    monkeypatch.setattr(room, "PATIENCE", 1.0)
    storage = Storage(s3_uri)
    s3_server.stop()
    try:
        with pytest.raises(StorageLost, match=f"{s3_uri} could not be reached for"):
            storage.write("a", b"1")
    finally:
        s3_server.start()
