"""URLs: told from paths, shown without secrets, opened by fsspec (s3://, gs://, https:// and others)."""

import importlib
from typing import Any
from urllib.parse import urlsplit

from tfrecords.errors import InputError


def is_remote(place: str) -> bool:
    """Returns whether a place is a URL, such as s3://bucket/folder, and not a local path."""
    return "://" in place


def without_secrets(url: str) -> str:
    """Returns a URL without user, password, query and fragment, so that it can be shown and kept."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def has_secrets(url: str) -> bool:
    """Returns whether a URL holds a user, a password or a query."""
    return "?" in url or "@" in urlsplit(url).netloc


def open_url(url: str) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL, and the path there, without a slash at its end.

    Raises:
        InputError: fsspec, or what it needs for this kind of URL, is not installed, or it knows no such kind.
    """
    try:
        files, path = importlib.import_module("fsspec").core.url_to_fs(url)
    except ImportError as error:
        raise InputError(
            f"{without_secrets(url)}: cannot be reached ({error}); install the extra `remote`: "
            f"pip install 'shardlight[remote]', or the library that this kind of URL needs"
        ) from None
    except ValueError as error:
        raise InputError(f"{without_secrets(url)}: {error}") from None
    return files, path.rstrip("/")
