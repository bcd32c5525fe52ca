from pathlib import Path

import pytest

from tfrecords.sources.class_folders import list_images
from tfrecords.sources.clutter import CLUTTER, HIDDEN, clutter

DOCS = Path(__file__).resolve().parents[3] / "docs" / "folders.md"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("@eaDir", "@eaDir"),
        ("@EADIR", "@eaDir"),
        ("lost+found", "lost+found"),
        ("#recycle", "#recycle"),
        ("#snapshot", "#snapshot"),
        ("$RECYCLE.BIN", "$RECYCLE.BIN"),
        ("$Recycle.Bin", "$RECYCLE.BIN"),
        ("System Volume Information", "System Volume Information"),
        (".Trash", ".Trash*"),
        (".Trash-1000", ".Trash*"),
        (".Trashes", ".Trash*"),
        ("a.png:Zone.Identifier", "*:Zone.Identifier*"),
        ("a.png:Zone.Identifier:$DATA", "*:Zone.Identifier*"),
        ("a.png\uf03aZone.Identifier", "*\uf03aZone.Identifier*"),
        ("Icon\r", "Icon\r"),
        ("ehthumbs.db", "ehthumbs.db"),
        ("ehthumbs_vista.db", "ehthumbs_vista.db"),
        ("THUMBS.DB", "Thumbs.db"),
        ("Thumbs.db:encryptable", "Thumbs.db:*"),
        ("Desktop.ini", "desktop.ini"),
        ("Picasa.ini", "Picasa.ini"),
        (".picasa.ini", ".picasa.ini"),
        (".ipynb_checkpoints", ".ipynb_checkpoints"),
        ("__MACOSX", "__MACOSX"),
        ("._a.png", "._*"),
        (".DS_Store", ".DS_Store"),
        (".AppleDouble", ".AppleDouble"),
        (".fseventsd", ".fseventsd"),
        (".Spotlight-V100", ".Spotlight-V100"),
        ("@Recently-Snapshot", "@Recently-Snapshot"),
        ("@Recycle", "@Recycle"),
        (".@__thumb", ".@__thumb"),
        ("~$report.docx", "~$*"),
        (".scan.png.icloud", ".*.icloud"),
        ("a.png@SynoEAStream", "*@SynoEAStream"),
        ("FOUND.000", "FOUND.0*"),
        (".git", HIDDEN),
        (".scan1.png", HIDDEN),
        ("a.png", ""),
        ("Icon", ""),
        ("thumbs", ""),
        ("Zone.Identifier", ""),
        ("@home", ""),
        ("lost", ""),
        ("~a.png", ""),
    ],
)
def test_what_systems_leave_is_known(name, kind):
    assert clutter(name) == kind


def test_the_page_lists_what_the_code_does():
    text = DOCS.read_text()
    for name, maker in CLUTTER.items():
        shown = name if name.isprintable() else name.encode("unicode_escape").decode()
        (row,) = [line for line in text.splitlines() if f"`{shown}`" in line and line.startswith("|")]
        assert row.endswith(f"| {maker} |")


def test_clutter_is_passed_over_at_every_level_and_counted_by_kind(plant):
    root = plant(
        *(f"{split}/{label}/{n}.png" for split in ("train", "test") for label in "AB" for n in range(2)),
        *(f"train/A/@eaDir/{n}.png/SYNOPHOTO_THUMB_M.jpg" for n in range(2)),
        "@eaDir/x.png",
        "train/@eaDir/x.png",
        "lost+found/x.png",
        "train/#recycle/A/0.png",
        "train/B/.hidden.png",
        "train/B/sub1/.DS_Store",
        "train/B/sub1/2.png",
        "test/B/Icon\r",
        files={"test/A/0.png:Zone.Identifier": b"[ZoneTransfer]", "test/.DS_Store": b"", ".DS_Store": b""},
    )
    listing = list_images(root)
    assert len(listing.sources) == 9
    assert listing.notes == (
        "Skipped, not images: 1 #recycle, 1 *:Zone.Identifier*, 3 .DS_Store, 3 @eaDir, 1 Icon\\r, "
        "1 hidden names (.*), 1 lost+found",
    )


def test_without_clutter_there_is_no_note(plant):
    assert list_images(plant("A/1.png", "B/1.png")).notes == ()
