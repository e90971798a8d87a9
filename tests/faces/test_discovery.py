"""What is found in folders and tables, and the labels that follow."""

from pathlib import Path

import pytest

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.discovery import discover
from ssl_pipeline.faces.label_choice import choose_labels
from tests.learning.prediction_support import write_images


def folders(root: Path, counts: dict[str, int]) -> Path:
    for folder, number in counts.items():
        write_images(root / folder, [f"{position}.png" for position in range(number)])
    return root


def test_folders_per_class_are_an_attribute_named_by_its_values(tmp_path: Path) -> None:
    found = discover(folders(tmp_path, {"Female": 5, "male": 4, "Male ": 3}))
    (column,) = found.columns
    assert (column.key, column.name, column.meaning) == ("level 1", "gender", "attribute")
    choice = choose_labels(found)
    assert choice.counts == {"gender": {"Female": 5, "male": 7}}
    assert choice.values == {"gender": {"Male": "male"}}
    assert choice.levels == ("gender",)
    assert any("people unknown" in note for note in choice.notes)


def test_many_last_folders_with_few_images_are_persons(tmp_path: Path) -> None:
    people = {f"{'wear' if number % 2 else 'normal'}/person {number}": 2 for number in range(24)}
    choice = choose_labels(discover(folders(tmp_path, people)))
    assert choice.levels == ("mask", "person_id")
    assert choice.num_people == 24
    assert choice.notes == ()


def test_a_class_of_one_image_is_left_out_and_said(tmp_path: Path) -> None:
    choice = choose_labels(discover(folders(tmp_path, {"apple": 5, "pear": 5, "fig": 1})))
    assert choice.labels.space.to_dict() == {"label": ["apple", "pear"]}
    assert any("'fig' 1: fewer than 4 faces" in note for note in choice.notes)


def test_a_stray_image_above_the_folders_does_not_hide_the_level(tmp_path: Path) -> None:
    folders(tmp_path, {"a": 10, "b": 10})
    write_images(tmp_path, ["stray.png"])
    assert choose_labels(discover(tmp_path)).counts == {"label": {"a": 10, "b": 10}}


def test_a_public_face_set_is_recognized_by_its_reader(tmp_path: Path) -> None:
    names = [f"{20 + 3 * number}_{number % 2}_2_2017010100000{number:04}.jpg.chip.jpg" for number in range(20)]
    write_images(tmp_path, names)
    found = discover(tmp_path)
    assert found.source == {"type": "utkface"}
    choice = choose_labels(found)
    assert choice.counts == {"gender": {"female": 10, "male": 10}, "age": {"<50": 10, ">=50": 10}}
    assert choice.levels == () and choice.columns == {}


def write_table(folder: Path, header: str, rows: list[str], *, encoding: str = "utf-8") -> Path:
    write_images(folder, [f"{number}.png" for number in range(len(rows))])
    table = folder / "labels.csv"
    table.write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
    return table


def test_a_korean_table_in_cp949_needs_no_answers(tmp_path: Path) -> None:
    rows = [f"{number};{'남자' if number % 2 else '여자'};{20 + 2 * number};사람{number % 10}" for number in range(40)]
    rows = [row.replace(";", ".png;", 1) for row in rows]
    found = discover(write_table(tmp_path, "사진;성별;나이;인물", rows, encoding="cp949"))
    assert found.source == {"type": "csv", "table": "labels.csv", "image_column": "사진", "encoding": "cp949"}
    choice = choose_labels(found)
    assert choice.columns == {"image_path": "사진", "gender": "성별", "age_years": "나이", "person_id": "인물"}
    assert choice.labels.space.to_dict() == {"gender": ["남자", "여자"], "age": ["<60", ">=60"]}
    assert choice.num_people == 10


def test_an_attribute_that_would_empty_a_class_is_left_out(tmp_path: Path) -> None:
    rows = [f"{number}.png,{'yes' if number % 2 else 'no'},{'yes' if number % 2 else 'no'}" for number in range(20)]
    choice = choose_labels(discover(write_table(tmp_path, "path,glasses,hat", rows)))
    assert choice.labels.space.names == ["glasses"]
    assert any(note.startswith("hat is left out: with it, 2 of 4 classes") for note in choice.notes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "absent", "no such folder, archive or table"),
        (lambda folder: folder, "no image in it"),
        (lambda folder: write_table(folder, "name,gender", ["a,b"]), "no column holds paths of images"),
    ],
)
def test_nothing_to_read_is_said(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FaceTableError, match=message):
        discover(make(tmp_path))


def test_plain_images_are_a_pool_but_no_labels(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    found = discover(tmp_path)
    assert found.columns == ()
    with pytest.raises(FaceTableError, match="no attribute with two values"):
        choose_labels(found)
