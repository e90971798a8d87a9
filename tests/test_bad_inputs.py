"""User mistakes: the exact message, exit code 1, no traceback."""

from pathlib import Path

import pytest

from ssl_pipeline.cli import main as cli
from ssl_pipeline.errors import PipelineError
from tests.bad_inputs import BAD_INPUTS, BadInput, page, prepare_faces, write_folders


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.mistake)
def test_a_mistake_gets_one_message(
    bad: BadInput, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path)
    if bad.spoil is not None:
        bad.spoil(tmp_path)
    if bad.command:
        arguments = [argument.replace("{dir}", str(tmp_path)) for argument in bad.command]
        monkeypatch.setattr("sys.argv", ["ssl-pipeline", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 1
        message = capsys.readouterr().err.rstrip("\n")
    else:
        with pytest.raises(PipelineError) as error:
            prepare_faces(tmp_path, bad.overrides)
        message = f"{type(error.value).__name__}: {error.value}"
    assert message == bad.message.replace("{dir}", str(tmp_path))


def test_the_docs_show_the_table() -> None:
    assert Path(__file__).parents[1].joinpath("docs/bad-inputs.md").read_text(encoding="utf-8") == page()
