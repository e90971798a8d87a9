"""The README says what is there: every file in its map, every command and config it names."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_file_map_names_every_file() -> None:
    sources = [path for folder in ("flows", "ssl_pipeline") for path in (ROOT / folder).rglob("*.py")]
    missing = [str(path.relative_to(ROOT)) for path in sources if str(path.relative_to(ROOT)) not in README]
    assert [name for name in missing if not name.endswith("__init__.py")] == []


def test_every_local_link_and_picture_exists() -> None:
    for piece in README.split("](")[1:]:
        target = piece.split(")")[0]
        if not target.startswith(("http", "#")):
            assert (ROOT / target).exists(), target


def test_the_makefile_has_the_commands_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in ("setup", "demo", "test", "check", "bench"):
        assert f"\n{name}:" in makefile
