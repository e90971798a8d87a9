"""Audit sheets: numbered pictures of labeled faces, the CSV sheet for a person's answers, and its reader."""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from ssl_pipeline.errors import ManifestError, list_of_faults
from ssl_pipeline.faces.decoding import read_picture
from ssl_pipeline.reports.contact_sheet import contact_sheet
from ssl_pipeline.runs.files import atomic_path
from ssl_pipeline.runs.spreadsheet_cells import without_formulas

FACES_PER_PAGE, COLUMNS, SIDE = 100, 10, 128
SHEET_COLUMNS = ("number", "image_id", "attribute", "value", "confidence", "right")
ANSWERS = ("yes", "no", "unsure")
_IDENTITY = ("image_id", "attribute", "value")  # of a label


def render_audit_sheets(
    directory: Path, image_paths: Sequence[str], captions: Sequence[str], *, title: str
) -> tuple[list[Path], dict[int, str]]:
    """Write ``audit-01.png`` and so on, with 100 faces each.

    Args:
        directory: target folder.
        image_paths: [N]; the faces are numbered from 1.
        captions: [N], the label of each face.
        title: headline of every page.

    Returns:
        The files, and by number why a picture cannot be opened. Such a face has a gray square with the reason.
    """
    paths: list[Path] = []
    unreadable: dict[int, str] = {}
    for page in range(math.ceil(len(image_paths) / FACES_PER_PAGE)):
        images, texts = [], []
        for index in range(page * FACES_PER_PAGE, min((page + 1) * FACES_PER_PAGE, len(image_paths))):
            picture, number = read_picture(image_paths[index]), index + 1
            if isinstance(picture, str):
                unreadable[number] = picture
                texts.append(f"{number}. {captions[index]}\ncannot be opened: {picture}")
                picture = Image.new("RGB", (SIDE, SIDE), "lightgray")
            else:
                picture.thumbnail((SIDE, SIDE))  # a hundred photographs may not fit into memory
                texts.append(f"{number}. {captions[index]}")
            images.append(picture)
        paths.append(directory / f"audit-{page + 1:02d}.png")
        with atomic_path(paths[-1]) as temporary:
            contact_sheet(images, texts, columns=COLUMNS, title=title, side=SIDE).save(temporary, format="PNG")
    return paths, unreadable


def write_sheet(path: Path, sample: pd.DataFrame) -> None:
    """Write an audit sample as CSV with an empty column `right`; texts are protected from becoming formulas.

    Args:
        path: written atomically.
        sample: number, image_id, attribute, value and confidence per label.
    """
    sheet = sample.assign(confidence=sample["confidence"].map("{:.4f}".format), right="")[list(SHEET_COLUMNS)]
    with atomic_path(path) as temporary:
        sheet.apply(without_formulas).to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def read_answers(path: Path, sample: pd.DataFrame) -> "pd.Series[str]":
    """Read a completed sheet. Its rows may be in any order, separated by commas or semicolons.

    Args:
        path: the CSV file.
        sample: the labels of the sheet, see `write_sheet`.

    Returns:
        ``yes``, ``no``, ``unsure`` or, not answered yet, an empty text for each row of `sample`.

    Raises:
        ManifestError: if the file cannot be read or has other labels, a row is missing or repeated, or an answer invalid.
    """
    rows = _read_rows(path)
    identities = sample[list(_IDENTITY)].apply(without_formulas).astype("str").to_numpy(object).tolist()
    by_number = {str(number): identity for number, identity in zip(sample["number"], identities, strict=True)}
    answers: dict[str, str] = {}
    foreign, faults = [], []
    for line, row in enumerate(rows, start=2):
        number = (row["number"] or "").strip()
        if [row[name] for name in _IDENTITY] != by_number.get(number):
            foreign.append(
                f"row {line}: number {number or 'missing'}, {row['image_id']}, {row['attribute']} {row['value']}"
            )
            continue
        answer = (row["right"] or "").strip().lower()
        if number in answers:
            faults.append(f"row {line}: number {number} is repeated")
        elif answer and answer not in ANSWERS:
            faults.append(f"row {line}: number {number}, right: expected yes, no, unsure or nothing, got '{answer}'")
        answers[number] = answer
    if foreign:
        raise ManifestError(
            list_of_faults(
                f"{path}: {len(foreign):,} of {len(rows):,} rows are not in this manifest's sample; give the "
                "--sample and --seed that the sheet was written with",
                foreign,
            )
        )
    faults += [f"number {number} is missing" for number in by_number if number not in answers]
    if faults:
        raise ManifestError(list_of_faults(f"{path}: invalid answers; correct the column 'right'", faults))
    if not any(answers.values()):
        raise ManifestError(f"{path}: no row is answered; write yes, no or unsure into the column 'right'")
    return pd.Series([answers[str(number)] for number in sample["number"]], index=sample.index, dtype="str")


def _read_rows(path: Path) -> list[dict[str, str | None]]:
    """Read the rows of a sheet.

    Raises:
        ManifestError: if the file is missing, is not UTF-8 text, or lacks a column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: not UTF-8 text; save the sheet as CSV UTF-8") from None
    lines = text.splitlines()
    separator = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter=separator)
    header = reader.fieldnames or ()
    if missing := [name for name in SHEET_COLUMNS if name not in header and name != "confidence"]:
        raise ManifestError(f"{path}: no column {', '.join(missing)}; the header has {list(header)}")
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        raise ManifestError(f"{path}: repeated columns: {', '.join(repeated)}")
    return list(reader)
