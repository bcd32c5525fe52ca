"""Listings written for tests, as CSV and Parquet: `from listing_files import ROWS, as_csv, as_parquet`."""

import csv

ROWS = [
    ("b/2.png", "sick", "p2", "train"),
    ("a/1.png", "well", "p1", "train"),
    ("a/1.jpeg", "sick", "p9", "test"),
    ("3.png", "well", "p3", "test"),
]


HEADER = ("path", "label", "group", "split")


def as_csv(file, rows, header=HEADER):
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as opened:
        csv.writer(opened).writerows([header, *rows])
    return file


def as_parquet(file, rows, header=HEADER):
    import pyarrow as pa
    from pyarrow import parquet

    columns = zip(*rows, strict=True) if rows else [[] for _ in header]
    table = pa.table({name: pa.array(values) for name, values in zip(header, columns, strict=True)})
    parquet.write_table(table, file, row_group_size=3)
    return file


def found(listing):
    return [(s.path, listing.class_names[s.label], s.group, s.split) for s in listing.sources]


SORTED = [ROWS[1], ROWS[0], ROWS[3], ROWS[2]]  # by split, then path
