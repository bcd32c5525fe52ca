"""What output flags name: a file is whole or not there, and what is no file is written into."""

import os
import re
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from tfrecords.errors import InputError
from tfrecords.files.atomic import replace_atomically
from tfrecords.files.outputs import open_output, write_output


@pytest.fixture
def null(tmp_path):
    """A copy of /dev/null, so that nothing is lost where the code is wrong."""
    path = tmp_path / "devices" / "null"
    path.parent.mkdir()
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        path.write_bytes(b"")
    except PermissionError:
        pytest.skip("making a device needs root and a file system that allows it")
    return path


@pytest.fixture
def standard_output(tmp_path):
    """Makes standard output another file, for a block: `with standard_output(opened)`."""

    class Exchanged:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            sys.stdout.flush()
            self._kept = os.dup(1)
            os.dup2(self._file.fileno(), 1)

        def __exit__(self, *_):
            os.dup2(self._kept, 1)
            os.close(self._kept)

    return Exchanged


def read_all(fifo):
    """Starts to read a FIFO to its end; returns a function that gives what was read."""
    found = []
    reader = Thread(target=lambda: found.append(fifo.read_bytes()), daemon=True)
    reader.start()

    def end():
        reader.join(60)
        return found[0]

    return end


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_when_the_block_is_through(tmp_path):
    path = tmp_path / "out.csv"
    with open_output("--csv", str(path)) as output:
        output.write(b"one\n")
        output.write(b"two\n")
        assert not path.exists()
        assert names(tmp_path) == [f".out.csv.{os.getpid()}.tmp"]
    assert (path.read_bytes(), names(tmp_path)) == (b"one\ntwo\n", ["out.csv"])


@pytest.mark.parametrize("raised", [InputError, KeyboardInterrupt, SystemExit])
def test_a_block_that_ends_early_leaves_what_was_there(tmp_path, raised):
    path = tmp_path / "out.csv"
    path.write_text("old")

    def work():
        with open_output("--csv", str(path)) as output:
            output.write(b"half")
            raise raised

    with pytest.raises(raised):
        work()
    assert (path.read_text(), names(tmp_path)) == ("old", ["out.csv"])


def test_new_files_have_the_users_bits_and_replaced_ones_keep_theirs(tmp_path):
    before = os.umask(0o027)
    try:
        write_output("--csv", str(tmp_path / "new"), b"new")
        for mode in (0o600, 0o664, 0o444):
            path = tmp_path / f"{mode:o}"
            path.write_text("old")
            path.chmod(mode)
            write_output("--csv", str(path), b"new")
            assert (stat.S_IMODE(path.stat().st_mode), path.read_text()) == (mode, "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    write_output("--csv", str(path), b"new")
    assert (path.stat().st_uid, path.stat().st_gid, path.read_text()) == (1234, 2345, "new")


@pytest.mark.parametrize("there", [True, False])
def test_links_stay_and_the_file_behind_them_is_written(tmp_path, there):
    home = tmp_path / "home"
    home.mkdir()
    if there:
        (home / "file").write_text("old")
    (home / "near").symlink_to("file")  # relative to its own folder
    (tmp_path / "far").symlink_to("home/near")
    write_output("--csv", str(tmp_path / "far"), b"new")
    assert (tmp_path / "far").is_symlink()
    assert (home / "near").is_symlink()
    assert not (home / "file").is_symlink()
    assert (home / "file").read_text() == "new"
    assert (names(home), names(tmp_path)) == (["file", "near"], ["far", "home"])


def test_another_hard_link_keeps_the_old_content(tmp_path):
    (tmp_path / "one").write_text("old")
    (tmp_path / "other").hardlink_to(tmp_path / "one")
    write_output("--csv", str(tmp_path / "one"), b"new")
    assert ((tmp_path / "one").read_text(), (tmp_path / "other").read_text()) == ("new", "old")


@pytest.mark.parametrize("linked", [False, True])
def test_a_fifo_is_written_into(tmp_path, linked):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    path = tmp_path / "link" if linked else fifo
    if linked:
        path.symlink_to(fifo)
    end = read_all(fifo)
    with open_output("--csv", str(path)) as output:
        output.write(b"a\n")
        output.write(b"b\n" * 100_000)  # more than a pipe holds
        assert not output.is_stdout
    assert end() == b"a\n" + b"b\n" * 100_000
    assert fifo.is_fifo()
    assert path.is_symlink() == linked


@pytest.mark.parametrize("linked", [False, True])
def test_a_device_is_written_into(null, tmp_path, linked):
    path = tmp_path / "link" if linked else null
    if linked:
        path.symlink_to("devices/null")
    before = null.stat()
    assert not write_output("--csv", str(path), b"data" * 1000)
    after = null.stat()
    assert (after.st_mode, after.st_ino, after.st_rdev) == (before.st_mode, before.st_ino, before.st_rdev)
    assert (names(null.parent), path.is_symlink()) == (["null"], linked)


def test_a_disk_is_refused(tmp_path):
    try:
        os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    except PermissionError:
        pytest.skip("making a device needs root")
    with pytest.raises(InputError, match=rf"--csv={tmp_path}/disk: is a disk"):
        write_output("--csv", str(tmp_path / "disk"), b"data")
    assert (tmp_path / "disk").is_block_device()


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "LINK", "LINK/1"])
def test_standard_output_goes_on_where_it_stands(tmp_path, standard_output, name):
    """Even where it is a file: a shell that appends to it keeps what was there before."""
    log = tmp_path / "log"
    log.write_text("before\n")
    (tmp_path / "link").symlink_to("/dev/fd" if name == "LINK/1" else "/dev/stdout")
    with log.open("a") as file, standard_output(file):
        with open_output("--csv", name.replace("LINK", str(tmp_path / "link"))) as output:
            output.write(b"a,b\n")
            output.write(b"1,2\n")
        os.write(1, b"after\n")
        assert output.is_stdout
    assert log.read_text() == "before\na,b\n1,2\nafter\n"
    assert names(tmp_path) == ["link", "log"]
    assert Path("/dev/stdout").is_symlink()


def test_what_was_printed_before_comes_first(tmp_path, standard_output, monkeypatch):
    with (tmp_path / "log").open("w") as file, standard_output(file):
        monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(1), "w"))
        print("words")
        write_output("--csv", "-", b"data\n")
        sys.stdout.close()
    assert (tmp_path / "log").read_text() == "words\ndata\n"


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_the_file_that_is_standard_output_is_not_replaced_by_its_name(tmp_path, standard_output, kind):
    path = tmp_path / "out"
    if kind == "fifo":
        os.mkfifo(path)
        end = read_all(path)
    with path.open("wb", buffering=0) as file, standard_output(file):
        assert write_output("--csv", str(path), b"data")
        os.write(1, b"more")
    assert (end() if kind == "fifo" else path.read_bytes()) == b"datamore"


def test_the_null_device_as_both_is_not_standard_output(standard_output):
    """So that words which are to be seen nowhere do not appear on stderr."""
    with Path("/dev/null").open("w") as file, standard_output(file):
        assert not write_output("--csv", "/dev/stdout", b"data")
    assert Path("/dev/null").is_char_device()


def test_another_descriptor_is_written_into(tmp_path):
    read, write = os.pipe()
    write_output("--csv", f"/dev/fd/{write}", b"data")
    os.close(write)
    assert os.read(read, 100) == b"data"
    os.close(read)
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as file:
        (tmp_path / "link").symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        write_output("--csv", str(tmp_path / "link"), b"data\n")
    assert (log.read_text(), names(tmp_path)) == ("before\ndata\n", ["link", "log"])


def test_a_socket_that_is_open_is_written_into():
    one, other = socket.socketpair()
    write_output("--csv", f"/dev/fd/{one.fileno()}", b"data")
    assert other.recv(100) == b"data"
    one.close()
    other.close()


def test_another_processes_descriptor_is_written_into(tmp_path):
    """As /proc/1/fd/1, by which a container's log is written."""
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as file:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    write_output("--csv", f"/proc/{process.pid}/fd/1", b"data\n")
    process.communicate(b"after\n")
    assert log.read_text() == "before\ndata\nafter\n"


def loop(folder):
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    return folder / "one"


def nowhere(folder):
    (folder / "link").symlink_to("none/out")
    return folder / "link"


def listening(folder):
    with suppress(OSError), socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(folder / "socket"))
    return folder / "socket"


def in_a_file(folder):
    (folder / "file").write_text("text")
    return folder / "file" / "out"


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (lambda folder: folder, "Is a directory; name a file in it"),
        (lambda folder: f"{folder}/new/", "Is a directory; name a file in it"),
        (lambda folder: folder / "none" / "out", "No such file or directory; make the folder FOLDER/none"),
        (nowhere, "No such file or directory; make the folder FOLDER/none"),
        (in_a_file, "Not a directory; name a file elsewhere"),
        (loop, "Too many levels of symbolic links; .* remove them"),
        (listening, "No such device or address; name a file elsewhere"),
        (lambda _: "/dev/fd/987", "Bad file descriptor; it is not open for writing"),
    ],
)
def test_what_cannot_be_written_is_named_with_the_fix(tmp_path, make, fix):
    path = make(tmp_path)
    before = names(tmp_path)
    wanted = re.escape(f"--csv={path}: cannot be written: ") + ".*" + fix.replace("FOLDER", str(tmp_path))
    with pytest.raises(InputError, match=wanted):
        write_output("--csv", str(path), b"data")
    assert names(tmp_path) == before


def test_a_descriptor_that_is_only_read_is_refused():
    read, write = os.pipe()
    with pytest.raises(InputError, match=rf"/dev/fd/{read}: cannot be written: Bad file descriptor"):
        write_output("--csv", f"/dev/fd/{read}", b"data")
    os.close(read)
    os.close(write)


@pytest.mark.not_root
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match=r"out: cannot be written: Permission denied; name a file"):
            write_output("--csv", str(tmp_path / "out"), b"data")
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_leaves_what_was_there(disk):
    folder, _ = disk
    (folder / "out").write_text("old")
    with pytest.raises(
        InputError, match=r"--csv=.*/out: cannot be written: No space left on device; make room"
    ):
        write_output("--csv", str(folder / "out"), bytes(1 << 20))
    assert ((folder / "out").read_text(), names(folder)) == ("old", ["out"])


def test_a_file_that_is_mounted_by_itself_is_written_into(disk, tmp_path):
    """As a container has it; no file can take its place."""
    folder, _ = disk
    (folder / "behind").write_text("much older")
    (tmp_path / "out").write_text("")
    subprocess.run(["mount", "--bind", folder / "behind", tmp_path / "out"], check=True)
    try:
        write_output("--csv", str(tmp_path / "out"), b"new")
        assert ((folder / "behind").read_text(), (tmp_path / "out").read_text()) == ("new", "new")
    finally:
        subprocess.run(["umount", tmp_path / "out"], check=True)
    assert names(tmp_path) == ["disk", "out"]


def test_a_reader_that_goes_is_named(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(InputError, match=rf"--csv=/dev/fd/{write}: its reader closed it"):
        write_output("--csv", f"/dev/fd/{write}", b"data")
    os.close(write)


def test_a_reader_of_standard_output_that_goes_is_the_commands(standard_output):
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as file, standard_output(file):
        os.close(read)
        with pytest.raises(BrokenPipeError):
            write_output("--csv", "-", b"data")


def test_a_home_folder_and_names_as_long_as_may_be(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_output("--csv", "~/out", b"data")
    assert (tmp_path / "out").read_bytes() == b"data"
    for name in ("x" * 255, "ä" * 127, "字" * 85):
        write_output("--csv", str(tmp_path / name), b"data")
        replace_atomically(tmp_path / name, b"more")
        assert (tmp_path / name).read_bytes() == b"more"
        (tmp_path / name).unlink()
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_replaced_and_never_followed(tmp_path):
    """In a folder that all may write to, a link of somebody else's leads nowhere."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / f".out.{os.getpid()}.tmp").symlink_to(victim)
    write_output("--csv", str(tmp_path / "out"), b"data")
    assert (victim.read_text(), (tmp_path / "out").read_bytes()) == ("kept", b"data")
    assert names(tmp_path) == ["out", "victim"]
