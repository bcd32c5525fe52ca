import hashlib
import re

import pytest

from data_pipeline.sampling.weights_file import content_sha256, read_weights
from tfrecords.errors import InputError


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "weights.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.mark.parametrize(
    "content",
    [
        "id,weight\na/1.png,2\nb.png,0.5\n",
        "\ufeffid,weight\r\na/1.png,2.0\r\nb.png,5e-1\r\n",  # as a spreadsheet writes it
        'class,weight,id\nNORMAL,2,"a/1.png"\n"P, Q",.5,b.png\n',
    ],
)
def test_weights_are_read(written, content):
    assert read_weights(written(content)) == {"a/1.png": 2, "b.png": 0.5}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ("line 1", "no id and no weight", "nothing", "id,weight")),
        ("id;weight\na;1\n", ("line 1", "no id and no weight", "id;weight", "id,weight")),
        ("id,share\na,1\n", ("line 1", "no weight", "id, share", "id,weight")),
        ("id,weight\na,1\n,2\n", ("line 3", "has no id", "remove")),
        ("id,weight\na,1\nb,1\na,2\n", ("line 4", "'a' is on line 2 too", "remove")),
        *(
            (f"id,weight\na,1\nb,{text}\n", ("line 3", "'b'", f"weight '{text}'", "finite number, 0 or more"))
            for text in ("-1", "nan", "inf", "much", "")
        ),
        ("id,weight\na\n", ("line 2", "'a'", "weight ''", "finite number")),
        ("id,weight\na,0\nb,0\n", ("no weight is more than 0", "2 lines")),
        ("id,weight\n", ("no weight is more than 0", "0 lines")),
        (b"id,weight\n\xff,1\n", ("cannot be read", "UTF-8")),
        ('id,weight\n"a,1\n', ("cannot be read", "CSV")),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(written, content, said):
    path = written(content)
    with pytest.raises(InputError) as error:
        read_weights(path)
    for word in (f"--sampling={path}: ", *said):
        assert word in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    for call in (read_weights, content_sha256):
        with pytest.raises(InputError, match=re.escape(f"--sampling={tmp_path}/none.csv: cannot be read")):
            call(f"{tmp_path}/none.csv")


def test_a_file_is_known_by_its_content(written):
    assert content_sha256(written("id,weight\na,1\n")) == hashlib.sha256(b"id,weight\na,1\n").hexdigest()
