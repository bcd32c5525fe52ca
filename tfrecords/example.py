"""The record schema, once, for writer and reader: one `tf.train.Example` an image.

Records are encoded and decoded here without TensorFlow, so that conversion starts at once, its
workers stay small, and a record's bytes follow from its fields alone (the order of a protocol
buffer map is otherwise unspecified). The messages are tensorflow/core/example/{example,feature}.proto.
"""

from dataclasses import dataclass
from typing import Final, Literal

from tfrecords.errors import InputError

SCHEMA_VERSION: Final = 1

FIELDS: Final[dict[str, Literal["bytes", "int64"]]] = {
    "copy": "int64",  # 0 is the original, 1 and up are its augmented copies
    "group": "bytes",  # keyed hash of the group, printable
    "id": "bytes",  # the source's path below the root, printable ASCII
    "image": "bytes",  # uint8 [H, W, C] in C order for the raw encoding, else a PNG or JPEG file
    "label": "int64",  # index into the manifest's class names
    "source": "int64",  # index into sources.csv
}

_LENGTH_DELIMITED: Final = 2
_VALUE_LIST_FIELD: Final = {"bytes": 1, "int64": 3}  # fields of tensorflow.Feature


@dataclass(frozen=True, slots=True)
class Record:
    """One image with what is known of it; see `FIELDS`."""

    image: bytes
    label: int
    id: bytes
    source: int
    copy: int
    group: bytes


def encode(record: Record) -> bytes:
    """Returns the serialized `tf.train.Example`, its fields in alphabetical order."""
    features = b""
    for name, kind in FIELDS.items():
        value = getattr(record, name)
        payload = _varint(value) if kind == "int64" else value  # int64 lists are packed
        feature = _tagged(_VALUE_LIST_FIELD[kind], _tagged(1, payload))
        features += _tagged(1, _tagged(1, name.encode()) + _tagged(2, feature))
    return _tagged(1, features)


def decode(data: bytes) -> Record:
    """Returns the record in a serialized `tf.train.Example`.

    Raises:
        InputError: the bytes are no Example, or its fields are not exactly `FIELDS`.
    """
    values: dict[str, bytes | int] = {}
    try:
        for features in _messages(data, 1):
            for entry in _messages(features, 1):
                name = _one(entry, 1).decode()
                kind = FIELDS[name]
                payload = _one(_one(_one(entry, 2), _VALUE_LIST_FIELD[kind]), 1)
                if name in values:
                    raise ValueError(f"field {name!r} twice")
                values[name] = _number(payload) if kind == "int64" else payload
        if len(values) != len(FIELDS):
            raise ValueError(f"fields {', '.join(sorted(values)) or 'none'}")
    except KeyError as error:
        raise InputError(_refusal(f"field {error} is unknown")) from None
    except IndexError:
        raise InputError(_refusal("it is cut")) from None
    except ValueError as error:
        raise InputError(_refusal(str(error))) from None
    return Record(**values)  # type: ignore[arg-type]  # FIELDS has each value's kind


def _refusal(found: str) -> str:
    return (
        f"not a record of schema {SCHEMA_VERSION} ({found}): it must have exactly the fields "
        f"{', '.join(FIELDS)}; convert the images again with this version"
    )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tagged(field: int, payload: bytes) -> bytes:
    return bytes([field << 3 | _LENGTH_DELIMITED]) + _varint(len(payload)) + payload


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns the number that starts at `at` and the position behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte <= 0x7F:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _number(payload: bytes) -> int:
    value, end = _read_varint(payload, 0)
    if end != len(payload):
        raise ValueError("several numbers where one is expected")
    return value


def _messages(data: bytes, field: int) -> list[bytes]:
    """Returns the payloads of all length-delimited fields, that have this number."""
    found, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        length, at = _read_varint(data, at)
        if tag & 7 != _LENGTH_DELIMITED or at + length > len(data):
            raise ValueError("a broken field")
        if tag >> 3 == field:
            found.append(data[at : at + length])
        at += length
    return found


def _one(data: bytes, field: int) -> bytes:
    found = _messages(data, field)
    if len(found) != 1:
        raise ValueError(f"{len(found)} values where one is expected")
    return found[0]
