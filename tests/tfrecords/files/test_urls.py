import pytest

from tfrecords.errors import InputError
from tfrecords.files.urls import has_secrets, is_remote, open_url, without_secrets


@pytest.mark.parametrize(
    ("url", "shown", "secret"),
    [
        ("s3://bucket/data/", "s3://bucket/data", False),
        ("s3://key:secret@bucket/data", "s3://bucket/data", True),
        ("https://user@host:8443/a/b?sig=secret&x=1#part", "https://host:8443/a/b", True),
        ("https://host/a?sig=secret", "https://host/a", True),
        ("file:///a/b", "file:///a/b", False),
    ],
)
def test_a_url_is_shown_without_what_is_secret(url, shown, secret):
    assert is_remote(url)
    assert without_secrets(url) == shown
    assert has_secrets(url) == secret


@pytest.mark.parametrize("path", ["/data/chest_xray", "data"])
def test_a_path_is_not_remote(path):
    assert not is_remote(path)


def test_a_url_is_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    files, path = open_url(f"file://{tmp_path}/")
    assert path == str(tmp_path)
    assert files.cat_file(f"{path}/file") == b"content"


def test_a_kind_of_url_that_fsspec_does_not_know_is_named(facts):
    with pytest.raises(InputError, match=facts("nosuch://bucket/data: nosuch")):
        open_url("nosuch://key:secret@bucket/data")
