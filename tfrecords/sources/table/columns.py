"""Finds the columns of a table by its header, or says what is missing, with the likely fix."""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError, first_names
from tfrecords.sources.keys import normalized
from tfrecords.sources.table.files import Rows

REQUIRED: Final = ("path", "label")
OPTIONAL: Final = ("group", "split")
COLUMNS: Final = (*REQUIRED, *OPTIONAL)

_LIKELY: Final = {  # names in public data sets, in lower case, only letters and digits
    "path": "image img file filename filepath imagepath imgpath imagefile imagename imageid imageindex "
    "imgid imgname files paths images picture photo pathtoimage relativepath dicompath dicom imagefilename",
    "label": "class classes labels target targets category diagnosis dx finding findings findinglabels "
    "outcome y classname classid labelname groundtruth disease condition annotation result",
    "group": "patient patientid subject subjectid person personid case caseid study studyid participant "
    "participantid lesionid groups groupid mrn pid individual animalid donor slideid patientname",
    "split": "set subset fold partition dataset phase usage splits dataseries traintest",
}
_LIKELY_ROLE: Final = {name: role for role, names in _LIKELY.items() for name in names.split()}
_PANDAS_INDEX: Final = re.compile(r"__index_level_\d+__")  # added by pandas to Parquet files
_FLAGS: Final = frozenset(("0", "1", "0.0", "1.0", "true", "false"))
_ONES: Final = frozenset(("1", "1.0", "true"))


@dataclass(frozen=True)
class Columns:
    """The columns to find in a header.

    Attributes:
        named: names of columns that the user gave, by what they hold: path, label, group or split. The other
            columns have these names themselves, in any case.
        allow_others: whether there may be other columns.
        quote: whether errors may show the first row, which may be data where a table has no header.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    allow_others: bool = False
    quote: bool = True

    def rate(self, header: Sequence[str]) -> int:
        """Returns a score of a header: 100 for each known column, 1 for each likely one."""
        known = sum(bool(self._places(header, what)) for what in COLUMNS)
        return 100 * known + min(sum(_likely_role(name) is not None for name in header), 99)

    def places(self, file: Path, header: Sequence[str], rows: Rows) -> dict[str, int]:
        """Returns the place of each column that is there.

        Args:
            file: the table, for errors.
            header: the first row.
            rows: the other rows; read only where labels are missing.

        Raises:
            InputError: a column is missing, there twice, or unknown.
        """
        found = {what: self._places(header, what) for what in COLUMNS}
        for what, there in found.items():
            if not there and what in self.named:
                raise InputError(
                    f"--{what}_column={self.named[what]}: no such column in --listing={file} (found: "
                    f"{self._shown(header)})"
                )
            if len(there) > 1:
                names = list(dict.fromkeys(header[place] for place in there))
                also = f" ({', '.join(map(repr, names))})" * (len(names) > 1)
                raise InputError(
                    f"--listing={file}: column {self.named.get(what, what)!r} is there more than once{also}; "
                    f"{self._allowed()}"
                )
        places = {what: there[0] for what, there in found.items() if there}
        if missing := [what for what in REQUIRED if what not in places]:
            guess = self._guess(header, places, missing)
            if "label" in missing and "--label_column" not in guess:
                guess += _one_hot(file, header, rows(range(len(header)), strict=False), places.values())
            raise InputError(
                f"--listing={file}: no column {' and none '.join(missing)} (found: {self._shown(header)}); "
                f"{self._allowed()}, named in the first row{guess}"
            )
        for what, place in places.items():
            if other := [name for name in places if name != what and places[name] == place]:
                given = next(name for name in (what, other[0]) if name in self.named)
                raise InputError(
                    f"--{given}_column={header[place]}: is {what} and {other[0]} at once; each needs its own"
                )
        unknown = [place for place in range(len(header)) if place not in places.values()]
        unknown = [place for place in unknown if not _PANDAS_INDEX.fullmatch(header[place])]
        if unknown and not self.allow_others:
            names = [header[place] for place in unknown]
            index = any(name == "" or name.startswith("Unnamed:") for name in names)
            raise InputError(
                f"--listing={file}: unknown column{'s'[: len(unknown) != 1]} "
                f"{first_names(list(map(repr, names)))}; {self._allowed()}: rename or remove others, or "
                f"ignore them with --allow_columns{self._guess(header, places, OPTIONAL)}"
                + "; a column without a name is the index of pandas: write the table with index=False"
                * index
            )
        return places

    def passed_over(self, header: Sequence[str], places: Mapping[str, int]) -> list[str]:
        """Returns a line for each ignored column that is probably the group or the split."""
        out = []
        for what in OPTIONAL:
            likely = [name for name in header if _likely_role(name) == what]
            if what not in places and likely:
                flag = f"--{what}_column={shlex.quote(likely[0])}"
                out.append(
                    f"column {likely[0]!r} of the listing was ignored; if it is the {what}, give {flag}"
                )
        return out

    def _places(self, header: Sequence[str], what: str) -> list[int]:
        """Returns the places of a column: with its exact name, or else apart from case and spaces."""
        wanted = self.named.get(what, what)
        like = _folded(wanted)
        alike = [place for place, name in enumerate(header) if _folded(name) == like]
        exact = [place for place in alike if header[place] == wanted]
        return exact if what in self.named and len(exact) == 1 else alike

    def _allowed(self) -> str:
        names = [self.named.get(what, what) for what in COLUMNS]
        return f"allowed are {names[0]}, {names[1]}, {names[2]} and {names[3]}; the last two are optional"

    def _guess(self, header: Sequence[str], places: Mapping[str, int], missing: Collection[str]) -> str:
        flags = []
        for what in missing:
            likely = [
                name
                for place, name in enumerate(header)
                if _likely_role(name) == what and place not in places.values()
            ]
            if likely and what not in places:
                flags.append(f"--{what}_column={shlex.quote(likely[0])}")
        return f"; did you mean {' '.join(flags)}?" if flags else ""

    def _shown(self, header: Sequence[str]) -> str:
        if self.quote:
            return first_names(header) or "-"
        known = [name for name in header if _likely_role(name) or _folded(name) in COLUMNS]
        return ", ".join([*known, f"{len(header) - len(known)} others"])


def _folded(name: str) -> str:
    return normalized(name).casefold()


def _likely_role(name: str) -> str | None:
    return _LIKELY_ROLE.get(re.sub(r"[\W_]+", "", name).casefold())


def _one_hot(
    file: Path, header: Sequence[str], rows: Iterator[Sequence[str]], places: Collection[int]
) -> str:
    """Returns the fix for a table with a column of 0 and 1 for each class; "" for other tables.

    Args:
        file: the table.
        header: the names of the columns.
        rows: all rows.
        places: places of the columns that hold something else.
    """
    flags = set(range(len(header))) - set(places)
    ones: list[int] = []  # of each row, a bit for each column
    for cells in rows:
        if len(cells) != len(header):
            continue
        values = {place: normalized(cells[place]).casefold() for place in flags}
        flags = {place for place, value in values.items() if value in _FLAGS}
        ones.append(sum(1 << place for place in flags if values[place] in _ONES))
    names = [name for place, name in enumerate(header) if place in flags]
    if not ones or not names:
        return ""
    if len(names) == 1:
        return f"; {names[0]!r} holds 0 and 1: --label_column={shlex.quote(names[0])} makes classes of them"
    mask = sum(1 << place for place in flags)
    counts = [(row & mask).bit_count() for row in ones]
    said = f".\nThe columns {first_names(names)} hold 0 and 1"
    if several := [number for number, count in enumerate(counts, 1) if count > 1]:
        return (
            f"{said}, and {len(several)} of {len(ones)} rows, first row {several[0]}, have more than one 1: "
            f"multi-label data are not supported (docs/decisions.md). Keep the rows with one 1, or use a "
            f"single column with --label_column=NAME --allow_columns"
        )
    none = [number for number, count in enumerate(counts, 1) if count == 0]
    without = f"; {len(none)} rows, first row {none[0]}, have none and get the class 'none'" if none else ""
    rest = ".where(t[c].any(axis=1), 'none')" if none else ""
    return (
        f"{said}, one column for each class and one 1 in each row{without}. One column must hold the names "
        f"of the classes; in Python\n"
        f"  import pandas; t = pandas.read_csv({str(file)!r})\n"
        f"  c = [name for name in t if set(t[name]) <= {{0, 1}}]\n"
        f"  t = t.assign(label=t[c].idxmax(axis=1){rest}).drop(columns=c)\n"
        f"  t.to_csv('listing.csv', index=False)"
    )
