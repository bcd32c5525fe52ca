import csv
import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.duplicates import content_hashes
from tfrecords.duplicates.after_split import find_duplicates
from tfrecords.duplicates.before_split import identical_files, identical_images, join_groups
from tfrecords.duplicates.perceptual import NEAR_BITS
from tfrecords.duplicates.sets import refuse_crossing
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.images.decode import decode_fingerprinted
from tfrecords.images.planes import Target
from tfrecords.manifest import Manifest
from tfrecords.pool import Pool
from tfrecords.records import read_records
from tfrecords.sources.class_folders import list_images
from tfrecords.verification.data_set import verify


@pytest.fixture
def images(image_folder, tmp_path):
    """A copy of the drawn images to change."""
    return shutil.copytree(image_folder, tmp_path / "chest_xray")


@pytest.fixture
def split_images(images, tmp_path):
    """The images below train and test, groups 4 and 5 of each series in test."""
    root = tmp_path / "split"
    for path in sorted(images.rglob("*.*")):
        group = path.stem.removeprefix("NORMAL2-").split("-" if path.stem.startswith(("IM", "NORM")) else "_")
        number = int("".join(c for c in (group[1] if group[0] == "IM" else group[0]) if c.isdigit()))
        target = root / ("test" if number >= 4 else "train") / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return root


def options(images, tmp_path, **changes):
    return ConvertOptions(images, tmp_path / "out", **{"size": (32, 32), "workers": 1, **changes})


def rows(out):
    with (out / "duplicates.csv").open(newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def resaved(source, target):
    """Writes the pixels of an image to a file with other bytes."""
    with Image.open(source) as image:
        image.save(target, "PNG", compress_level=1)
    assert source.read_bytes() != target.read_bytes()


def refusal(call, *arguments, **named):
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    return str(caught.value)


def first(root, pattern, count=1):
    found = sorted(root.glob(pattern))[:count]
    return found[0] if count == 1 else found


class TestFiles:
    def test_only_files_with_all_bytes_the_same_are_a_set(self, images):
        normal = sorted((images / "NORMAL").iterdir())
        shutil.copy(normal[0], images / "NORMAL" / "z.jpeg")
        content = bytearray((images / "NORMAL" / "z.jpeg").read_bytes())
        content[len(content) // 2] ^= 1
        (images / "NORMAL" / "other.jpeg").write_bytes(content)  # as long, and not the same
        shutil.copy(normal[1], images / "PNEUMONIA" / "y.png")
        listing = list_images(images)
        found = [[listing.sources[n].path for n in numbers] for numbers in identical_files(listing, Pool(1))]
        assert sorted(found) == sorted(
            [[f"NORMAL/{normal[0].name}", "NORMAL/z.jpeg"], [f"NORMAL/{normal[1].name}", "PNEUMONIA/y.png"]]
        )

    def test_files_that_differ_only_before_their_last_4_kib_are_no_set(self, images):
        pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
        Image.fromarray(pixels).save(images / "NORMAL" / "a.bmp")
        pixels[-1, 0] ^= 1  # BMP keeps the last row first
        Image.fromarray(pixels).save(images / "NORMAL" / "b.bmp")
        one, other = ((images / "NORMAL" / name).read_bytes() for name in ("a.bmp", "b.bmp"))
        assert (len(one), one[-4096:]) == (len(other), other[-4096:])
        assert one != other
        assert identical_files(list_images(images), Pool(1)) == ()

    def test_groups_are_joined_through_chains_and_only_inside_a_given_split(self, split_images):
        listing = list_images(split_images)
        at = {source.path: number for number, source in enumerate(listing.sources)}

        def one(split, group):
            return next(n for path, n in at.items() if path.startswith(split) and f"/{group}" in path)

        a, b, c, other = (
            one("train", "person0_b"), one("train", "person1_b"), one("train", "person2_b"),
            one("test", "person4_b"),
        )  # fmt: skip
        joined = join_groups(listing, [(a, b), (b, c), (a, other)])
        groups = [source.group for source in joined.sources]
        assert groups[a] == groups[b] == groups[c] == "person0_bacteria"
        assert groups[other] == listing.sources[other].group
        merged = {"person1_bacteria", "person2_bacteria"}
        assert {s.group for s in listing.sources} - set(groups) == merged
        for before, after in zip(listing.sources, joined.sources, strict=True):
            assert after.group == ("person0_bacteria" if before.group in merged else before.group)


class TestConversion:
    @pytest.mark.slow
    def test_the_same_bytes_in_two_groups_never_part(self, images, tmp_path):
        """Of 12 pairs of groups, made one by a shared file each, a split by name would part some."""
        pairs = []
        for series, low in (("bacteria", 0), ("virus", 0)):
            for group in range(0, 6, 2):
                path = first(images, f"PNEUMONIA/person{low + group}_{series}_0.*")
                other = images / "PNEUMONIA" / f"person{group + 1}_{series}_9{path.suffix}"
                shutil.copy(path, other)
                pairs.append((path, other))
        found = convert_images(options(images, tmp_path, val_fraction=0.3, test_fraction=0.3)).manifest
        with (tmp_path / "out" / "sources.csv").open(newline="") as file:
            by_id = {row["id"]: row for row in csv.DictReader(file)}
        for path, other in pairs:
            one, two = (by_id[f"PNEUMONIA/{p.name}"] for p in (path, other))
            assert (one["group"], one["split"]) == (two["group"], two["split"])
        assert (found.split_quality.duplicate_sets, found.split_quality.duplicate_images) == (6, 12)
        assert (
            found.split_quality.duplicate_sets_across_splits,
            found.split_quality.duplicate_sets_across_labels,
        ) == (0, 0)
        kept = convert_images(
            options(images, tmp_path, val_fraction=0.3, test_fraction=0.3, duplicates="keep", overwrite=True)
        ).manifest
        assert kept.split_quality.duplicate_sets_across_splits > 0  # "keep" leaves groups as they are
        assert verify(tmp_path / "out") == []

    def test_inside_a_split_they_are_counted_and_listed(self, images, tmp_path):
        path = first(images, "NORMAL/IM-0001*")
        copy = images / "NORMAL" / "IM-0001-0009.png"
        resaved(path, copy)
        quality = convert_images(options(images, tmp_path)).manifest.split_quality
        assert (quality.duplicate_sets, quality.duplicate_images, quality.duplicate_policy) == (
            1,
            2,
            "refuse",
        )
        found = rows(tmp_path / "out")
        assert [row[:4] for row in found] == [
            ("0", "exact", f"NORMAL/{path.name}", "NORMAL"),
            ("0", "exact", "NORMAL/IM-0001-0009.png", "NORMAL"),
        ]
        assert len({row[4] for row in found}) == 1
        assert verify(tmp_path / "out") == []

    def test_what_a_finished_conversion_kept_is_refused_by_the_default(self, split_images, tmp_path):
        path = first(split_images, "train/NORMAL/IM-0001*")
        resaved(path, split_images / "test" / "NORMAL" / "IM-0005-0007.png")
        given = {"val_fraction": 0, "duplicates": "keep"}
        assert (
            convert_images(
                options(split_images, tmp_path, **given)
            ).manifest.split_quality.duplicate_sets_across_splits
            == 1
        )
        assert convert_images(options(split_images, tmp_path, **given)).was_complete
        assert refusal(convert_images, options(split_images, tmp_path, val_fraction=0)) == (
            f"--out={tmp_path / 'out'}: holds this conversion with --duplicates=keep, and its duplicates.csv "
            f"lists images that are the same in two splits or with two labels; give --duplicates=keep to "
            f"keep it so, or --duplicates=drop --overwrite"
        )

    def test_without_any_there_is_no_file(self, images, tmp_path):
        assert convert_images(options(images, tmp_path)).manifest.split_quality.duplicates_sha256 == ""
        assert not (tmp_path / "out" / "duplicates.csv").exists()

    def test_the_same_bytes_across_given_splits_are_refused_before_anything_is_made(
        self, split_images, tmp_path
    ):
        path = first(split_images, "train/NORMAL/IM-0001*")
        shutil.copy(path, split_images / "test" / "NORMAL" / f"IM-0005-7{path.suffix}")
        message = refusal(convert_images, options(split_images, tmp_path, val_fraction=0))
        assert message == (
            f"{split_images}: 1 set of images are the same to the pixel (1 in two splits):\n"
            f"  train/NORMAL/{path.name} (NORMAL, train), test/NORMAL/IM-0005-7{path.suffix} (NORMAL, test)\n"
            "A model would be tested on what it was trained on. Remove all but one of each set, leave the "
            "others out with --duplicates=drop, or keep them all with --duplicates=keep."
        )
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_the_same_pixels_in_other_bytes_are_refused_before_the_seal(self, split_images, tmp_path):
        path = first(split_images, "train/NORMAL/IM-0001*")
        resaved(path, split_images / "test" / "NORMAL" / "IM-0005-0007.png")
        chosen, out = options(split_images, tmp_path, val_fraction=0), tmp_path / "out"
        message = refusal(convert_images, chosen)
        assert f"All are listed in {out}/duplicates.csv.\n" in message
        assert f"train/NORMAL/{path.name} (NORMAL, train)" in message
        assert "test/NORMAL/IM-0005-0007.png (NORMAL, test)" in message
        assert "leave the others out with --duplicates=drop --overwrite, " in message
        assert not (out / "manifest.json").exists()
        assert len(rows(out)) == 2
        written = {p.name: p.stat().st_mtime_ns for p in out.glob("*.tfrecord-*-of-?????")}
        assert refusal(convert_images, chosen) == message

        kept = convert_images(options(split_images, tmp_path, val_fraction=0, duplicates="keep")).manifest
        assert (kept.split_quality.duplicate_policy, kept.split_quality.duplicate_sets_across_splits) == (
            "keep",
            1,
        )
        assert {p.name: p.stat().st_mtime_ns for p in out.glob("*.tfrecord-*-of-?????")} == written
        assert verify(out) == []

    def test_two_labels_are_refused_and_dropped_neither(self, images, tmp_path):
        path = first(images, "NORMAL/IM-0001*")
        resaved(path, images / "PNEUMONIA" / "person1_virus_8.png")
        message = refusal(convert_images, options(images, tmp_path))
        assert "(1 with two labels" in message
        assert "One of the labels is wrong. Correct it, or remove the images" in message
        assert "--duplicates=drop" not in message
        message = refusal(convert_images, options(images, tmp_path, duplicates="drop", overwrite=True))
        assert message.startswith(
            "--duplicates=drop: 1 set of images are the same to the pixel but have two labels, so the image "
            f"to keep is not known:\n  NORMAL/{path.name} (NORMAL, not split yet), "
            "PNEUMONIA/person1_virus_8.png (PNEUMONIA, not split yet)\n"
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [1, 2])
    def test_drop_keeps_the_first_of_each_set(self, split_images, tmp_path, workers):
        one, two = first(split_images, "train/NORMAL/IM-000*", 2)
        resaved(one, split_images / "test" / "NORMAL" / "IM-0005-0007.png")
        shutil.copy(one, split_images / "train" / "NORMAL" / f"zz{one.suffix}")
        shutil.copy(two, split_images / "train" / "NORMAL" / f"zy{two.suffix}")
        chosen = options(split_images, tmp_path, duplicates="drop", workers=workers)
        manifest, out = convert_images(chosen).manifest, tmp_path / "out"
        assert (manifest.split_quality.dropped_duplicates, manifest.split_quality.duplicate_sets) == (3, 0)
        assert manifest.split_quality.describe_duplicates()[0] == (
            "duplicates: 3 images left out, the same to the pixel as one kept"
        )
        found = rows(out)
        by_set = {number: [row for row in found if row[0] == number] for number in {row[0] for row in found}}
        assert sorted(len(own) for own in by_set.values()) == [2, 3]
        for own in by_set.values():
            assert [row[1] for row in own] == ["exact"] + ["dropped"] * (len(own) - 1)
            assert own[0][4] in ("train", "val", "test")
            assert {row[4] for row in own[1:]} == {""}
        records = [
            decode(data)
            for split in manifest.splits.values()
            for shard in split.shards
            for data in read_records(out / shard.name)
        ]
        assert not {row[2] for row in found if row[1] == "dropped"} & {r.id.decode() for r in records}
        assert verify(out) == []
        assert convert_images(chosen).was_complete

    @pytest.mark.parametrize("policy", ["drop", "refuse"])
    def test_what_differs_only_in_detail_is_not_the_same(self, images, tmp_path, policy):
        paths = [images / "NORMAL" / "flat.png", images / "PNEUMONIA" / "dot.png"]
        for dot, path in enumerate(paths):  # one grey level in one pixel: the records are the same
            pixels = np.full((256, 256), 100, np.uint8)
            pixels[9, 9] += dot
            Image.fromarray(pixels).save(path)
        manifest = convert_images(options(images, tmp_path, duplicates=policy, size=(64, 64))).manifest
        assert (manifest.split_quality.dropped_duplicates, manifest.split_quality.duplicate_sets) == (0, 0)
        found = [decode_fingerprinted(p.read_bytes(), height=64, width=64, channels=1) for p in paths]
        assert found[0].fingerprint == found[1].fingerprint  # so it was told by more than that

    def test_the_default_reads_each_image_once_for_its_pixels(self, images, tmp_path, monkeypatch):
        decoded = []
        from tfrecords.convert import shards

        def counted(original):
            def counting(data, **sizes):
                decoded.append(hash(data))
                return original(data, **sizes)

            return counting

        monkeypatch.setattr(shards, "decode_fingerprinted", counted(shards.decode_fingerprinted))
        monkeypatch.setattr(content_hashes, "content_hash", counted(content_hashes.content_hash))
        convert_images(options(images, tmp_path))
        assert len(decoded) == 60

    @pytest.mark.slow
    def test_any_number_of_workers_finds_the_same(self, images, tmp_path):
        resaved(first(images, "NORMAL/IM-0001*"), images / "NORMAL" / "IM-0001-0009.png")
        for workers in (1, 2):
            chosen = ConvertOptions(
                images, tmp_path / str(workers), size=(32, 32), workers=workers, shard_size=1 << 16
            )
            convert_images(chosen)
        one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("1", "2"))
        assert one == two
        assert "duplicates.csv" in one

    @pytest.mark.slow
    def test_a_changed_list_is_found_by_verify(self, images, tmp_path):
        resaved(first(images, "NORMAL/IM-0001*"), images / "NORMAL" / "IM-0001-0009.png")
        convert_images(options(images, tmp_path))
        path = tmp_path / "out" / "duplicates.csv"
        path.write_bytes(path.read_bytes().replace(b"exact", b"exakt", 1))
        problem = f"{path}: its SHA-256 is not the manifest's; convert again with --overwrite"
        assert problem in verify(tmp_path / "out", quick=True)
        path.unlink()
        assert problem in verify(tmp_path / "out", quick=True)


class TestNear:
    def test_pairs_across_splits_are_counted_without_the_same_pixels(self):
        splits = ["train", "train", "test", "test", "val", "test", "train"]
        hashes = ["a", "b", "c", "a", "d", "", "e"]
        perceptual_hashes = [0b0, 0b1, 0b11, 0b0, 1 << 40, 0b0, 0b111111111]
        found = find_duplicates(splits, hashes, perceptual_hashes)
        expected = [
            (i, j)
            for i, j in combinations(range(7), 2)
            if splits[i] != splits[j]
            and hashes[i] != hashes[j]
            and "" not in (hashes[i], hashes[j])
            and (perceptual_hashes[i] ^ perceptual_hashes[j]).bit_count() <= NEAR_BITS
        ]
        assert found.near == tuple(expected)
        assert found.near_count == len(expected) == 7
        assert found.exact == ((0, 3),)

    @pytest.mark.parametrize("seed", range(3))
    def test_the_count_is_that_of_the_pairs(self, seed):
        random = np.random.default_rng(seed)
        splits = [("train", "val", "test")[i] for i in random.integers(0, 3, 80)]
        hashes = [str(i) for i in random.integers(0, 60, 80)]
        perceptual_hashes = [int(hashes[i]) % 7 * 3 for i in range(80)]  # the same pixels look the same
        found = find_duplicates(splits, hashes, perceptual_hashes)
        pairs = {
            tuple(sorted([(hashes[i], splits[i]), (hashes[j], splits[j])]))
            for i, j in combinations(range(80), 2)
            if splits[i] != splits[j] and hashes[i] != hashes[j]
            and (perceptual_hashes[i] ^ perceptual_hashes[j]).bit_count() <= NEAR_BITS
        }  # fmt: skip
        assert found.near_count == len(pairs) == len(found.near)
        assert len(pairs) > 100

    def test_many_images_that_look_the_same_are_counted_and_the_first_pairs_listed(self):
        count = 2000
        found = find_duplicates(
            ["train", "test"] * count, [str(n) for n in range(2 * count)], [7] * (2 * count)
        )
        assert found.near_count == count * count
        assert len(found.near) == 10_000

    def test_they_are_reported_and_not_refused(self, split_images, tmp_path):
        path = first(split_images, "train/PNEUMONIA/*.bmp")
        with Image.open(path) as image:
            image.point(lambda value: min(255, value + 2)).save(
                split_images / "test" / "PNEUMONIA" / "person5_virus_8.png"
            )
        quality = convert_images(options(split_images, tmp_path, val_fraction=0)).manifest.split_quality
        assert quality.near_duplicate_pairs >= 1
        near = [row for row in rows(tmp_path / "out") if row[1] == "near"]
        assert len(near) == 2 * quality.near_duplicate_pairs
        assert "test/PNEUMONIA/person5_virus_8.png" in {row[2] for row in near}
        assert verify(tmp_path / "out") == []


def test_long_sets_and_many_sets_are_shortened(images):
    listing = list_images(images)
    splits = ["train", "test"] * 30
    message = refusal(
        refuse_crossing, [tuple(range(8)), *((n, n + 1) for n in range(10, 22, 2))], listing, splits
    )
    assert message.startswith(f"{images}: 7 sets of images are the same to the pixel (7 in two splits):\n")
    assert ", and 3 more\n" in message
    assert "\n  ... and 2 more sets\n" in message


def test_an_image_that_cannot_be_decoded_is_passed_over_when_looking(images):
    (images / "NORMAL" / "IM-0009-0001.jpeg").write_bytes(b"\xff\xd8\xff" + b"nothing" * 9)
    Path(images / "NORMAL" / "IM-0009-0002.jpeg").write_bytes(b"\xff\xd8\xff" + b"no other" * 9)
    from tfrecords.sources.rejection import MaxRejects

    listing = list_images(images, max_rejects=MaxRejects(2))
    counted = []
    assert identical_images(listing, target=Target(64, 64, 1), pool=Pool(1), progress=counted.append) == ()
    assert sum(counted) in (60, 62)


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_images_convert_by_default(real_images, tmp_path):
    listing = list_images(real_images)
    sets = identical_files(listing, Pool(1))
    assert len(sets) > 0
    manifest = convert_images(ConvertOptions(real_images, tmp_path / "out", size=(32, 32), copies=0)).manifest
    assert manifest.split_quality.duplicate_sets >= len(sets)
    assert (
        manifest.split_quality.duplicate_sets_across_splits
        == manifest.split_quality.duplicate_sets_across_labels
        == 0
    )
    values = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert values["split_quality"]["duplicate_policy"] == "refuse"
    assert Manifest.load(tmp_path / "out") == manifest
