import numpy as np
import pytest

from data_pipeline.sampling.shares import WHOLE, fields_for, shares_of
from tfrecords.errors import InputError

# Image 7 has three variants, 9 and 4 one, 5 two. Classes 0 and 2 have records, 1 has none.
COLUMNS = {
    "source": np.array([7, 9, 7, 4, 5, 7, 5]),
    "label": np.array([0, 2, 0, 2, 2, 0, 2]),
    "group": np.array([b"g", b"h", b"g", b"g", b"i", b"g", b"i"], object),
    "id": np.array([b"7.png", b"9.png", b"7.png", b"4.png", b"5.png", b"7.png", b"5.png"], object),
}
FIRST = np.array([3, 4, 0, 1])  # a record of each image


@pytest.fixture
def weights(tmp_path):
    def write(rows):
        path = tmp_path / "weights.csv"
        path.write_text("id,weight\n" + "".join(f"{name},{weight}\n" for name, weight in rows.items()))
        return str(path)

    return write


def check(shares, expected, blocks):
    assert int(shares.share.numpy().sum()) == WHOLE
    np.testing.assert_allclose(shares.share.numpy() / WHOLE, expected, rtol=1e-14)
    assert shares.blocks == blocks
    assert sorted(set(shares.block.numpy().tolist())) == list(range(blocks))


def test_a_class_has_the_share_of_another_and_its_images_of_each_other():
    shares = shares_of("class", COLUMNS, "train")
    check(shares, np.array([1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 6, 1 / 3, 1 / 6]) / 2, 2)
    assert shares.image.numpy().tolist() == [2, 3, 2, 0, 1, 2, 1]
    assert shares.images == 4


def test_a_group_has_the_share_of_another_and_its_images_of_each_other():
    check(
        shares_of("group", COLUMNS, "train"),
        np.array([1 / 6, 1, 1 / 6, 1 / 2, 1 / 2, 1 / 6, 1 / 2]) / 3,
        3,
    )


def test_an_image_has_the_share_of_its_weight_and_divides_it_among_its_variants(weights):
    path = weights({"4.png": 3, "7.png": 1, "9.png": 0, "5.png": 4})
    check(shares_of(path, COLUMNS, "train"), np.array([1 / 3, 0, 1 / 3, 3, 2, 1 / 3, 2]) / 8, 1)


def test_one_variant_of_an_image_has_all_of_its_share(weights):
    check(shares_of("class", COLUMNS, "train", FIRST), np.array([1 / 3, 1 / 3, 1, 1 / 3]) / 2, 2)
    check(shares_of("group", COLUMNS, "train", FIRST), np.array([1 / 2, 1, 1 / 2, 1]) / 3, 3)
    path = weights({"4.png": 3, "7.png": 1, "9.png": 0, "5.png": 4})
    check(shares_of(path, COLUMNS, "train", FIRST), np.array([3, 4, 1, 0]) / 8, 1)


def test_weights_of_any_size_are_taken(weights):
    path = weights({"4.png": 1e308, "7.png": 1e308, "9.png": 5e-324, "5.png": 1e308})
    check(shares_of(path, COLUMNS, "train", FIRST), np.array([1, 1, 1, 0]) / 3, 1)


def test_each_image_must_have_a_weight_and_no_other(weights):
    path = weights({"4.png": 3, "7.png": 1, "9.png": 0, "5.png": 4, "6.png": 1, "8.png": 1})
    with pytest.raises(InputError) as error:
        shares_of(path, COLUMNS, "train")
    for word in (f"--sampling={path}: 2 of its 6 ids", "'train'", "6.png, 8.png", "remove their lines"):
        assert word in str(error.value)
    path = weights({"4.png": 3, "7.png": 1})
    with pytest.raises(InputError) as error:
        shares_of(path, COLUMNS, "train")
    for word in (f"--sampling={path}: 2 of 4 images", "'train'", "5.png, 9.png", "add a line"):
        assert word in str(error.value)


def test_only_the_fields_that_are_needed_are_read():
    assert fields_for("natural") == ()
    for sampling, name in (("class", "label"), ("group", "group"), ("a.csv", "id")):
        assert fields_for(sampling) == ("source", name)
