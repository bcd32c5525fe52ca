"""Conversion of images behind a URL, and to a URL: s3://, gs://, az:// and others that fsspec knows.

The images are copied to a local work folder, and the result is written there too. Then each shard is uploaded
under its final name, and manifest.json last. An object store shows an uploaded file whole or not at all.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from tfrecords.convert.changed import STAT_NAME, SourceFiles, no_record_note, rebound_record
from tfrecords.convert.conversion import Conversion, convert_images, sources_of
from tfrecords.convert.final_files import updated_manifest
from tfrecords.convert.options import ConvertOptions, refuse_nested
from tfrecords.convert.output import PLAN_NAME, is_ours
from tfrecords.errors import InputError
from tfrecords.files.atomic import write_atomically
from tfrecords.files.urls import is_remote, open_url
from tfrecords.manifest import MANIFEST_NAME, Manifest

_FETCHED: Final = "fetched.json"  # the version of each copied image
_BATCH: Final = 256  # files copied by one call, several at once


def convert_remote(options: ConvertOptions, *, images: str, out: str, work: Path) -> Conversion:
    """Does what `convert_images` does, with the images, the result, or both behind a URL.

    The same call again continues: copied images, and shards that were written or uploaded, are kept.

    Args:
        options: of the conversion; its `images` and `out` are replaced if they are URLs.
        images: the image folder, or its URL.
        out: the result folder, or its URL.
        work: local folder with room for copies of both; for one conversion at a time. The copy of the images
            stays there, the copy of the result is removed after its upload.

    Raises:
        InputError: a place cannot be read or written, `out` holds something else, or as for `convert_images`.
    """
    if options.engine.task is not None or options.engine.finish:
        raise InputError("--task and --finish: need a folder as --out that all tasks share, not a URL")
    listed = options.listing is not None
    if not is_remote(images):
        refuse_nested(Path(images), work / "out", listed=listed, called=f"--work={work}")
    else:
        copy = work / "images" / (PurePosixPath(images.rstrip("/")).name or "images")
        if not is_remote(out):  # also with a listing: files that are not at the URL are removed from the copy
            refuse_nested(copy, Path(out), listed=False)
        fetch(images, copy, journal=work / _FETCHED)
        options = replace(options, images=copy)
    if not is_remote(out):
        return convert_images(options)
    options = replace(options, out=work / "out")
    sources = sources_of(options)
    complete = _complete_result(out, sources, overwrite=options.overwrite)
    if complete is not None:
        manifest, notes = complete
        manifest, update_notes = _updated(out, manifest, options.positive)
        return Conversion(manifest, True, 0.0, (*sources.listing.notes, *notes, *update_notes))
    conversion = convert_images(options)
    _upload_result(options.out, out, conversion.manifest)
    shutil.rmtree(options.out)
    return replace(conversion, was_complete=False)


def fetch(url: str, folder: Path, *, journal: Path) -> None:
    """Makes a local folder a copy of a remote one; files that have not changed since are not copied again.

    Args:
        url: of the remote folder.
        folder: the copy; a file in it that the remote folder does not have is removed.
        journal: file with the version of each copied file.

    Raises:
        InputError: the folder is empty or cannot be read, or a name in it leads out of the copy.
    """
    with _opened(url) as (files, base):
        there = {
            path[len(base) + 1 :]: _version(info)
            for path, info in files.find(base, detail=True).items()
            if info["type"] == "file" and path != base and not path.endswith("/")
        }
        if not there:
            raise InputError(
                f"--images={url}: has no files; give the URL of the folder with the class folders"
            )
        if odd := [name for name in sorted(there) if set(name.split("/")) & {"", ".", ".."}]:
            raise InputError(f"--images={url}: {odd[0]!r} cannot be a file name here; rename it")
        done = json.loads(journal.read_bytes()) if journal.exists() else {}
        missing = [n for n in sorted(there) if done.get(n) != there[n] or not (folder / n).is_file()]
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            if path.relative_to(folder).as_posix() not in there:
                path.unlink()
        for start in range(0, len(missing), _BATCH):
            names = missing[start : start + _BATCH]
            # First out of the journal: after a kill in the middle of a file, it is copied again.
            done = {name: version for name, version in done.items() if name in there and name not in names}
            _write_journal(journal, done)
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            files.get([f"{base}/{name}" for name in names], [str(folder / name) for name in names])
            done |= {name: there[name] for name in names}
        _write_journal(journal, done)


def _write_journal(journal: Path, values: dict[str, Any]) -> None:
    journal.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(journal, json.dumps(values).encode())


def _version(info: dict[str, Any]) -> list[str]:
    """Returns the properties of a remote file that change with its content."""
    return [str(info["size"]), *(str(info.get(key)) for key in ("ETag", "etag", "LastModified", "mtime"))]


def _complete_result(
    url: str, sources: SourceFiles, *, overwrite: bool
) -> tuple[Manifest, tuple[str, ...]] | None:
    """Returns manifest and notes of a complete result of this plan; else prepares the URL for one."""
    plan = sources.plan["plan"]
    with _opened(url) as (files, base):
        files.invalidate_cache()
        found = sorted(path[len(base) + 1 :] for path in files.find(base)) if files.exists(base) else []
        marks = [name for name in (MANIFEST_NAME, PLAN_NAME) if name in found]
        there = json.loads(files.cat_file(f"{base}/{marks[0]}")) if marks else {}
        if marks and there.get("plan") == plan:
            if marks[0] != MANIFEST_NAME:
                return None
            record = files.cat_file(f"{base}/{STAT_NAME}") if STAT_NAME in found else None
            changed, updated = sources.changed(record, there)
            if changed and not overwrite:
                raise sources.refuse(url, changed)
            if changed is None and sources.check and not overwrite:
                raise sources.refuse_unknown(url)
            if not changed and (changed is not None or not overwrite):
                if updated is not None:
                    files.pipe_file(f"{base}/{STAT_NAME}", updated)
                if PLAN_NAME in found:  # a process was killed after it had uploaded the manifest
                    files.rm_file(f"{base}/{PLAN_NAME}")
                return _check_sizes(files, base, url), (no_record_note(),) * (changed is None)
        if found and not (overwrite and marks):
            what = "a conversion of other images or with other options" if marks else "no conversion"
            fix = ", or replace it with --overwrite" if marks else ""
            raise InputError(
                f"--out={url}: is not empty ({', '.join(found[:3])}{', ...' * (len(found) > 3)}) and holds "
                f"{what}; choose another --out{fix}"
            )
        # After a kill from here on, the URL holds no data set, but is known as a conversion's.
        files.pipe_file(f"{base}/{PLAN_NAME}", b'{"plan": "being replaced"}')
        old = [name for name in found if is_ours(name) and name != PLAN_NAME]
        for name in sorted(old, key=lambda name: (name != MANIFEST_NAME, name)):
            files.rm_file(f"{base}/{name}")
        files.pipe_file(f"{base}/{PLAN_NAME}", json.dumps({"plan": plan}).encode())
    return None


def _updated(url: str, manifest: Manifest, positive: str) -> tuple[Manifest, tuple[str, ...]]:
    """Uploads the manifest of a complete result anew if its schema is old or its positive class is another.

    Returns:
        the manifest, and notes on it.
    """
    updated, notes = updated_manifest(manifest, positive)
    if updated != manifest:
        with _opened(url) as (files, base), tempfile.TemporaryDirectory() as folder:
            updated.save(Path(folder))
            stat = f"{base}/{STAT_NAME}"
            record = files.cat_file(stat) if files.exists(stat) else b""
            if (record := rebound_record(record, manifest, updated)) is not None:
                files.pipe_file(stat, record)
            _upload(files, base, Path(folder), [MANIFEST_NAME])
    return updated, notes


def _check_sizes(files: Any, base: str, url: str) -> Manifest:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST_NAME).write_bytes(files.cat_file(f"{base}/{MANIFEST_NAME}"))
        manifest = Manifest.load(Path(folder), check_shards=False)
    for shard in [shard for split in manifest.splits.values() for shard in split.shards]:
        path = f"{base}/{shard.name}"
        size = files.size(path) if files.exists(path) else None
        if size != shard.bytes:
            raise InputError(
                f"{url}/{shard.name}: has {size} bytes, the manifest says {shard.bytes}; restore it, or "
                f"remove {url}/{MANIFEST_NAME} and convert again"
            )
    return manifest


def _upload_result(folder: Path, url: str, manifest: Manifest) -> None:
    """Uploads a result, manifest.json last; a shard that was uploaded before is kept if it has its size."""
    mark = {"plan": manifest.plan, "manifest": manifest.sha256}
    with _opened(url) as (files, base):
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        # Shards of an earlier upload may be of images that have changed since.
        before = json.loads(files.cat_file(f"{base}/{PLAN_NAME}"))
        of_this = before.get("manifest", mark["manifest"]) == mark["manifest"]
        files.pipe_file(f"{base}/{PLAN_NAME}", json.dumps(mark).encode())
        files.invalidate_cache()
        sizes = {path[len(base) + 1 :]: info["size"] for path, info in files.find(base, detail=True).items()}
        data = [name for name in names if name != MANIFEST_NAME]
        # Only shards are known by their size; all other files are small and are uploaded again.
        kept = {n for n in data if ".tfrecord-" in n and sizes.get(n) == (folder / n).stat().st_size}
        kept = kept if of_this else set()
        _upload(files, base, folder, [name for name in data if name not in kept])
        _upload(files, base, folder, [MANIFEST_NAME])
        files.rm_file(f"{base}/{PLAN_NAME}")


def _upload(files: Any, base: str, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        files.put_file(str(folder / name), f"{base}/{name}")
        if files.info(f"{base}/{name}", refresh=True)["size"] != (folder / name).stat().st_size:
            raise InputError(f"{base}/{name}: has another size after the upload; run the same command again")


@contextmanager
def _opened(url: str) -> Iterator[tuple[Any, str]]:
    """Gives the file system of a URL and the path in it; errors inside the block name the URL."""
    files, base = open_url(url)
    try:
        yield files, base
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{url}: cannot be read or written: {error}; the same command again goes on"
        ) from None
