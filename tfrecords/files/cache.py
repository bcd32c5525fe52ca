"""The user's cache folder."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Returns the user's cache folder: `shardlight` in `$XDG_CACHE_HOME`, else in `~/.cache`.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardlight"
