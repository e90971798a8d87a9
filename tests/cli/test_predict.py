"""`ssl-pipeline predict`: what is refused before torch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

REFUSED = {
    "absent --out out.csv": "FaceTableError: absent: no such folder, image or list of images",
    ". --out out.txt": "ConfigError: --out out.txt: expected a name that ends with .csv, .json or .parquet",
    ".": "--out FILE is missing: ssl-pipeline predict MODEL IMAGES --out FILE, or --out - for the screen",
    ". --out out.csv --zoom 3": "ConfigError: --zoom [3.0]: expected different numbers from 1 to 2",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_wrong_call_is_refused_without_torch(words: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ssl_pipeline.cli.main import app\nfrom ssl_pipeline.errors import PipelineError\n"
        f"sys.argv = ['ssl-pipeline', 'predict', 'model', *{words.split()!r}]\n"
        "try: app(standalone_mode=False)\n"
        "except PipelineError as error: print(f'{type(error).__name__}: {error}')\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    message, imported = ran.stdout.strip().rsplit("\n", 1)
    assert REFUSED[words] in message
    assert imported == "False"
