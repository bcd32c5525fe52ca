import os
import unicodedata

import pytest

from tfrecords.sources.table.paths import ABSOLUTE, BACKSLASH, EXTENSION, SPACES, PathFinder

NFC, NFD = (unicodedata.normalize(form, "Röntgen") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def find(root):
    """Makes files and returns what a path means there: the path or the problem, and what was corrected."""

    def found(written, *names, quote=True):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"abc")
        finder = PathFinder(root, quote=quote)
        result = finder.find(written)
        assert (result.size == 3) == (not result.problem)
        return result.problem or result.path, {what for what, count in finder.corrections.items() if count}

    return found


@pytest.mark.parametrize("name", ["a.png", "a b.png", " a.png ", "a\\b.png", NFD, "id000", "a/b.png"])
def test_a_path_as_it_is_written_goes_first(find, name):
    others = [unicodedata.normalize("NFC", name.replace("\\", "/")).strip() + ".png", "id000.png"]
    assert find(name, name, *others) == (name, set())


@pytest.mark.parametrize(
    ("written", "name"),
    [
        *(("a.png ", "a.png"), ("\ufeffa.png", "a.png"), ("a.png", " a.png"), ("a\u00a0b.png", "a b.png")),
        *((f"{NFC}.png", f"{NFD}.png"), (f"{NFD}.png", f"{NFC}.png"), (f"{NFC}/1.png", f"{NFD}/1.png")),
        *((f"{NFD} /1.png", f"{NFC}/1.png"), ("x/a\u200b.png", "x/a.png"), ("a  b.png", "a b.png")),
    ],
)
def test_stray_spaces_and_forms_of_unicode(find, written, name):
    assert find(written, name, "z/other.png") == (name, {SPACES})


@pytest.mark.parametrize(
    ("written", "name", "corrections"),
    [
        ("id000", "id000.png", {EXTENSION}),
        ("id000", "id000.JPEG", {EXTENSION}),
        ("1.2.840.113", "1.2.840.113.dcm", {EXTENSION}),
        ("id000 ", "id000.png", {EXTENSION, SPACES}),
        (f"a/{NFC}", f"a/{NFD}.png", {EXTENSION}),
        ("train\\a\\1.png", "train/a/1.png", {BACKSLASH}),
        (".\\train\\a\\1", "train/a/1.png", {BACKSLASH, EXTENSION}),
        ("./a.png", "a.png", set()),
    ],
)
def test_without_extension_and_with_backslashes(find, written, name, corrections):
    assert find(written, name, "id0001.png", "id000.txt", "id000.csv") == (name, corrections)


def test_a_folder_of_the_same_name_is_no_image(find):
    assert find("id000", "id000/1.png", "id000.png") == ("id000.png", {EXTENSION})
    assert find("id001", "id001/1.png")[0] == "the path 'id001' is a folder"


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("id000", ["id000.jpg", "id000.png"]),
        ("id000", ["id000.PNG", "id000.png"]),
        ("a.png\t", [" a.png", "a.png"]),
        (f"{NFC} .png", [f"{NFD} .png", f"{NFC}\u00a0.png"]),
    ],
)
def test_two_files_that_it_could_be(find, written, names):
    problem, corrections = find(written, *names)
    assert f"the path {written!r} could be" in problem
    assert all(repr(name) in problem for name in names)
    assert corrections == set()
    problem, _ = find(written, quote=False)
    assert "could be 2 files" in problem
    assert "png" not in problem


def test_the_bytes_of_a_spreadsheet_on_windows(find):
    assert find(os.fsdecode("Röntgen.png".encode("cp1252")), "Röntgen.png")[0] == "Röntgen.png"


def test_absolute_paths_below_the_folder(find, root, tmp_path, monkeypatch):
    assert find(f"{root}/a/1.png", "a/1.png") == ("a/1.png", {ABSOLUTE})
    assert find(f" {root}/a/1.png ")[0] == "a/1.png"
    assert find(f"{root}/../images/a/1") == ("a/1.png", {ABSOLUTE, EXTENSION})
    (tmp_path / "link").symlink_to(root)
    assert find(f"{tmp_path}/link/a/1.png")[0] == "a/1.png"
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "link", "./link/../images", "link/"):
        assert PathFinder(folder, quote=True).find(f"{root}/a/1.png").path == "a/1.png"
        assert PathFinder(folder, quote=True).find(f"{tmp_path}/link/a/1.png").path == "a/1.png"


def test_a_file_that_is_a_link_is_below_the_folder(find, root, tmp_path):
    (tmp_path / "store").write_bytes(b"abc")
    root.mkdir()
    (root / "a.png").symlink_to(tmp_path / "store")
    assert find(f"{root}/a.png") == ("a.png", {ABSOLUTE})
    assert f"is absolute and not below --images={root}" in find(f"{tmp_path}/store")[0]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("gone.png", ["the file 'gone.png' cannot be found: No such file or directory"]),
        ("/elsewhere/x.png", ["'/elsewhere/x.png' is absolute and not below --images="]),
        ("/elsewhere/a/1.png", ["is absolute", "'a/1.png'", "leave '/elsewhere/' out"]),
        ("images/a/1.png", ["'images/a/1.png' cannot be found", "'a/1.png'", "leave 'images/' out"]),
        ("C:\\data\\images\\a\\1.png", ["cannot be found", "'a/1.png'", "leave 'C:/data/images/' out"]),
        ("../images/a/1.png", ["leads out of --images", "'a/1.png'", "leave '../images/' out"]),
        ("1.png", ["cannot be found", "below 'a'", "/images/a"]),
        ("a/1.PNG", ["cannot be found", "did you mean 'a/1.png'"]),
        ("a/1.jpg", ["cannot be found", "did you mean 'a/1.png'"]),
        ("s3://bucket/a/1.png", ["cannot be found", "is a URL"]),
        ("a", ["the path 'a' is a folder"]),
        ("nul\0.png", ["'nul\\x00.png' holds a NUL character"]),
    ],
)
def test_what_cannot_be_found_and_where_it_may_be(find, written, said):
    problem, corrections = find(written, "a/1.png", "b/2.png")
    assert all(text in problem for text in said), problem
    assert corrections == set()
    problem, _ = find(written, quote=False)
    assert not any(text in problem for text in ("1.png", "gone", "elsewhere/", "bucket", "'a'"))


def test_a_folder_is_read_once_and_hints_end(find, root, monkeypatch):
    find("0.png", *(f"{n}.png" for n in range(30)))
    read = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: read.append(path) or real(path))
    finder = PathFinder(root, quote=True)
    assert [finder.find(f"{n}.png ").path for n in range(30)] == [f"{n}.png" for n in range(30)]
    assert len(read) == 1
    problems = [finder.find(f"images/{n}.png").problem for n in range(30)]
    assert sum("leave 'images/' out" in problem for problem in problems) == 10
