import pytest

from tfrecords.errors import first_names


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, ""),
        (2, "0, 1"),
        (10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (11, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... and 1 more"),
        (2000, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... and 1,990 more"),
    ],
)
def test_of_many_names_the_first(count, said):
    assert first_names([str(number) for number in range(count)]) == said
