"""The house's own rules: who imports whom, how large a file and a function may be, what no file is called."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "ssl_pipeline").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_library_never_imports_prefect() -> None:
    code = (
        "import pkgutil, importlib, sys, ssl_pipeline\n"
        "for module in pkgutil.walk_packages(ssl_pipeline.__path__, 'ssl_pipeline.'): importlib.import_module(module.name)\n"
        "sys.exit(', '.join(name for name in sys.modules if name.split('.')[0] in ('prefect', 'flows')) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr


def test_pseudo_labels_need_no_torch() -> None:
    code = (
        "import sys, ssl_pipeline.pseudo_labels.selection, ssl_pipeline.pseudo_labels.summary\n"
        "import ssl_pipeline.pseudo_labels.merging; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{node.name} has {length} lines below its docstring"


def test_no_file_is_called_utils() -> None:
    assert not [path for path in SOURCES if path.stem in ("utils", "helpers", "misc", "common")]
