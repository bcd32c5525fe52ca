"""The table of sources: missing, edited or damaged."""

import pytest
from checked import check, flip, rebuild, shard_names


@pytest.mark.parametrize("quick", [True, False])
def test_sources_csv_missing_or_edited(data, quick):
    path = data / "sources.csv"
    path.write_bytes(path.read_bytes().replace(b",train,", b",val,", 1))
    edited = f"{path}: its SHA-256 is not the manifest's; convert again with --overwrite"
    assert check(data, quick=quick) == [edited]
    path.unlink()
    missing = f"{path}: cannot be read: No such file or directory; convert again with --overwrite"
    assert check(data, quick=quick) == [missing]


def test_without_sources_csv_records_are_still_checked(data):
    (data / "sources.csv").unlink()
    path = data / shard_names(data)[0]
    flip(path, 8 * 500)
    assert len([problem for problem in check(data) if problem.startswith(f"{path}: ")]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[3].pop(), "row 2 has 10 cells, the header has 11"),
        (lambda rows: rows[3].__setitem__(0, "7"), "row 2 has the number '7'"),
        (lambda rows: rows[3].__setitem__(1, rows[2][1]), "row 2 has the id "),
        (lambda rows: rows[3].__setitem__(2, "CAT"), "row 2 has 'CAT', which is not in the manifest"),
        (lambda rows: rows[3].__setitem__(3, "night"), "row 2 has 'night', which is not in the manifest"),
        (lambda rows: rows[0].__setitem__(1, "name"), "has no column id; there must be source,id,class,"),
        (lambda rows: rows.clear(), "is empty, it must start with source,id,class,split,group"),
        (lambda rows: rows.pop(), "source 59, but sources.csv has 59"),
    ],
)
def test_a_wrong_table_of_sources(data, change, message):
    rebuild(data, lambda it: change(it.rows))
    assert check(data, quick=True) == [] or "column" in message or "empty" in message
    assert any(message in problem for problem in check(data)), check(data)
