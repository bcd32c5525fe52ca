"""The fields of a record, and how they become the bytes of a `tf.train.Example` and back.

This needs no TensorFlow, so a conversion starts at once and its processes stay small. The fields are written
in alphabetical order, so that equal records have equal bytes: protocol buffers leave a map's order open.
The messages are those of tensorflow/core/example/{example,feature}.proto.
"""

from dataclasses import dataclass
from typing import Final, Literal

from tfrecords.errors import InputError

SCHEMA_VERSION: Final = 1

FIELDS: Final[dict[str, Literal["bytes", "int64"]]] = {
    "copy": "int64",  # 0 for the original; 1, 2, ... for its augmented copies
    "group": "bytes",  # keyed hash of the group (the patient, for example), printable ASCII
    "id": "bytes",  # path of the source below the image folder, printable ASCII
    "image": "bytes",  # uint8 [H, W, C] in C order for the raw encoding, else a PNG or JPEG file
    "label": "int64",  # index into the manifest's class names
    "source": "int64",  # index into sources.csv
}

# Field numbers of the messages, outermost first; all of these fields are length-delimited.
FEATURES_FIELD: Final = 1  # tensorflow.Example.features
ENTRY_FIELD: Final = 1  # tensorflow.Features.feature, a map with an entry for each of `FIELDS`
NAME_FIELD: Final = 1  # the entry's key
FEATURE_FIELD: Final = 2  # the entry's value
LIST_FIELD: Final = {"bytes": 1, "int64": 3}  # tensorflow.Feature.bytes_list and .int64_list
VALUE_FIELD: Final = 1  # the list's values; int64 values are packed

_LENGTH_DELIMITED: Final = 2  # wire type


@dataclass(frozen=True, slots=True)
class Record:
    """One image and its facts; see `FIELDS`."""

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
        payload = _varint(value) if kind == "int64" else value
        feature = _tagged(LIST_FIELD[kind], _tagged(VALUE_FIELD, payload))
        entry = _tagged(NAME_FIELD, name.encode()) + _tagged(FEATURE_FIELD, feature)
        features += _tagged(ENTRY_FIELD, entry)
    return _tagged(FEATURES_FIELD, features)


def tag(field: int) -> int:
    """Returns the byte before a length-delimited field."""
    return field << 3 | _LENGTH_DELIMITED


def decode(data: bytes) -> Record:
    """Returns the record in a serialized `tf.train.Example`.

    Raises:
        InputError: the bytes are not an Example, or its fields are not exactly `FIELDS`.
    """
    values: dict[str, bytes | int] = {}
    try:
        for features in _messages(data, FEATURES_FIELD):
            for entry in _messages(features, ENTRY_FIELD):
                name = _one(entry, NAME_FIELD).decode()
                kind = FIELDS[name]
                value_list = _one(_one(entry, FEATURE_FIELD), LIST_FIELD[kind])
                payload = _one(value_list, VALUE_FIELD)
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
    return bytes([tag(field)]) + _varint(len(payload)) + payload


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns the number that starts at `at`, and the position after it."""
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
    """Returns the payloads of all fields with this number; every field must be length-delimited."""
    payloads, at = [], 0
    while at < len(data):
        start, at = _read_varint(data, at)
        length, at = _read_varint(data, at)
        if start & 7 != _LENGTH_DELIMITED or at + length > len(data):
            raise ValueError("a broken field")
        if start >> 3 == field:
            payloads.append(data[at : at + length])
        at += length
    return payloads


def _one(data: bytes, field: int) -> bytes:
    payloads = _messages(data, field)
    if len(payloads) != 1:
        raise ValueError(f"{len(payloads)} values where one is expected")
    return payloads[0]
