"""Names from text: one on a line, ImageNet's synsets, DeepStream's one line, literals, tables."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Sequence

from engines.errors import ModelError
from engines.labels.maps import by_index, either_way
from engines.labels.names import ClassNames, class_names, from_pairs

__all__ = ["literal_names", "read_json_text", "table_names", "text_names"]

_SYNSET = re.compile(r"(n[0-9]{8})\s+(\S.*)")
"""A line of ImageNet's lists: WordNet's number, and the words of it."""

_NUMBERED = re.compile(r"([0-9]{1,9})(?:\s*[:,]\s*|\s+)(\S.*)")
"""A line of a numbered list; Teachable Machine and Coral write no more than blanks between."""

_COUNTED = re.compile(r"([0-9]{1,9})(?::\s|\s*\t).*")
"""One that is surely numbered: labels begin with a number and a comma or colon too, as 8:30."""

_INDEX_HEADERS = {"id", "idx", "index", "class_id", "class_index", "label_id", "label_index"}


def text_names(text: str, where: str, *, classes: int) -> ClassNames:
    """Names from the text of labels.txt, classes.txt, synset.txt and their like.

    Args:
        text: One label on a line, blank lines at the end aside. All lines may begin with a synset
            (n01440764), or be numbered (`0: tench`; a comma, tab or blank as well) in any order
            from 0 on. Or all labels on one line with `;` between them, as DeepStream has it. Or a
            list or dictionary, in JSON or Python.
        where: The file, for messages.
        classes: Of the model: the one line of a model with one class is its label.

    Raises:
        ModelError: A line is empty, a label no text, or numbers of lines do not count from 0.
    """
    if text.lstrip()[:1] in ("{", "["):
        names = literal_names(text, where)
        if names is not None:
            return names
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if len(lines) == 1 and ";" in text and classes > 1:
        return class_names([part.strip() for part in lines[0].removesuffix(";").split(";")], where)
    if "" in lines:
        raise ModelError(
            f"{where}: line {lines.index('') + 1} is empty; expected one label on each line"
        )
    if all(synsets := [_SYNSET.fullmatch(line) for line in lines]):
        return from_pairs([match.groups() for match in synsets if match], where)
    return class_names(_by_number(lines, where) or lines, where)


def _by_number(lines: Sequence[str], where: str) -> list[str] | None:
    """What stands behind the numbers of lines, in their order; None where lines have no numbers."""
    numbered = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
    names = {int(match[1]): match[2] for match in numbered}
    if sorted(names) == list(range(len(lines))) and len(set(names.values())) > 1:
        return [names[index] for index in range(len(lines))]
    counted = [int(match[1]) for line in lines if (match := _COUNTED.fullmatch(line))]
    if len(counted) == len(lines) and counted != list(range(counted[0], counted[0] + len(lines))):
        raise ModelError(
            f"{where}: its lines are numbered, and not from 0 to {len(lines) - 1}, so that it is"
            " not clear which class a line names; expected a line for each class, counted from 0,"
            " or lines without numbers"
        )
    return None


def literal_names(text: str, where: str) -> ClassNames | None:
    """Names from a list or dictionary written as JSON or Python; None where it is neither.

    Ultralytics writes `str(names)` into the metadata of an ONNX file, and the list of ImageNet's
    classes that is passed around most is a Python dictionary too.

    Raises:
        ModelError: The literal is understood, and its labels are incomplete.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    if isinstance(value, dict):
        if all(type(key) is int for key in value):
            return by_index({str(key): name for key, name in value.items()}, where)
        return either_way({str(key): name for key, name in value.items()}, where)
    return from_pairs(value, where) if isinstance(value, list | tuple) else None


def read_json_text(text: str, where: str) -> object:
    """A JSON document in which no object has a key twice: the label that came first would be lost.

    Raises:
        ModelError: It is no JSON, or has a key twice.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        document: dict[str, object] = {}
        for key, value in pairs:
            if key in document:
                raise ModelError(f"{where} has the key {key!r} twice; expected one for each class")
            document[key] = value
        return document

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"cannot read the labels in {where} as JSON: {error}") from error


def table_names(text: str, where: str, *, tabs: bool) -> ClassNames:
    """Names from CSV or TSV: an index and a name, perhaps a description, perhaps a header.

    The column of indices is the one that a header calls so, or else the first that holds integers;
    rows can stand in any order. One column alone is one label in each row, and no header.

    Raises:
        ModelError: It is no table, rows have different lengths, or indices have gaps.
    """
    delimiter = "\t" if tabs else (";" if ";" in text and "," not in text else ",")
    try:
        table = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row
        ]
    except csv.Error as error:
        raise ModelError(f"cannot read the labels in {where} as a table: {error}") from error
    rows = [[cell.strip() for cell in row] for row in table]
    if not rows or len({len(row) for row in rows}) > 1:
        raise ModelError(f"{where} is not a table of labels; expected index and name in each row")
    if len(rows[0]) == 1:
        return class_names([row[0] for row in rows], where)
    return _from_columns(rows, where)


def _from_columns(rows: list[list[str]], where: str) -> ClassNames:
    columns = range(len(rows[0]))
    named = [column for column in columns if rows[0][column].lower() in _INDEX_HEADERS]
    integers = [column for column in columns if all(row[column].isdecimal() for row in rows[1:])]
    position = next(iter(named or integers), None)
    if position is None:
        raise ModelError(f"{where} has no column of indices; expected index and name in each row")
    body = rows if rows[0][position].isdecimal() else rows[1:]
    values: dict[str, object] = {}
    for row in body:
        if row[position] in values:
            raise ModelError(f"{where} has two labels for class {row[position]}; expected one")
        values[row[position]] = _cells(row, position)
    return by_index(values, where)


def _cells(row: Sequence[str], position: int) -> object:
    """The name, or name and description, beside the index."""
    others = [cell for column, cell in enumerate(row) if column != position]
    return others[0] if len(others) == 1 else others[:2]
