"""Finding images: order, hidden files, links, lists, and folders that cannot be listed."""

import os
from pathlib import Path

import pytest

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.inference.files import ImageFile, find_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(images: Path) -> list[str]:
    return [file.name for file in find_images(images).files]


NESTED = ["b.jpg", "a/z.PNG", "a/a/1.webp", "a-b.jpg", "a.jpg", "x.jpg/inner.jpg", "line\nbreak.png", "ü.png"]


def test_images_of_a_folder_are_sorted_by_whole_path(tmp_path: Path) -> None:
    many = [f"many/{number}.jpg" for number in range(20)]
    touch(tmp_path, *NESTED, *many, "._b.jpg", ".hidden/c.jpg", "notes.txt")
    assert names(tmp_path) == sorted([*NESTED, *many])
    assert all(Path(file.path).is_file() for file in find_images(tmp_path).files)


def test_broken_links_are_found_and_circular_ones_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "across").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "across").symlink_to(tmp_path / "a")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert names(tmp_path) == ["a/1.jpg", "a/across/2.jpg", "b/2.jpg", "b/across/1.jpg", "gone.jpg", "self.jpg"]


def test_a_folder_that_cannot_be_listed_is_one_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "locked/b.jpg", "z.jpg")
    scandir = os.scandir

    def refuse(folder: str) -> object:  # permissions would not stop root
        if str(folder).rstrip("/").endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    faults = [(file.name, file.fault) for file in find_images(tmp_path).files]
    assert faults == [
        ("a.jpg", None),
        ("locked/", "this folder cannot be listed (Permission denied)"),
        ("z.jpg", None),
    ]


def test_names_that_are_not_utf8_are_found_and_escaped(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(path, "wb"):
        pass
    (image,) = find_images(tmp_path).files
    assert image.name == r"caf\udce9.jpg"
    assert os.fsencode(image.path) == path


def test_a_list_keeps_its_order_and_its_paths_are_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("b.jpg\n\n/abs/a.jpg\r\nb.jpg\n")
    assert find_images(tmp_path / "list.txt").files == [
        ImageFile("b.jpg", f"{tmp_path}/b.jpg"),
        ImageFile("/abs/a.jpg", "/abs/a.jpg"),
        ImageFile("b.jpg", f"{tmp_path}/b.jpg"),
    ]
    (tmp_path / "list.CSV").write_text('\ufeffid,image_path\n007,"b,1.jpg"\n8,\n')
    assert find_images(tmp_path / "list.CSV").files == [
        ImageFile("b,1.jpg", f"{tmp_path}/b,1.jpg"),
        ImageFile("row 3", str(tmp_path), "expected the path of an image, got nothing"),
    ]


def test_a_list_without_image_paths_or_an_absent_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("file,label\na.jpg,1\n")
    with pytest.raises(FaceTableError, match=r"no column 'image_path' .* the header has \['file', 'label'\]"):
        names(tmp_path / "other.csv")
    with pytest.raises(FaceTableError, match="no such folder, image or list"):
        names(tmp_path / "absent")
