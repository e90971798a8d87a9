"""What `make setup` and `make setup-dev` install, and from where: the lock, the extras, the Makefile's steps."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = list(map(Requirement, PROJECT["dependencies"]))
EXTRAS = {name: list(map(Requirement, texts)) for name, texts in PROJECT["optional-dependencies"].items()}
NOT_FOR_RUNNING = ("ray", "s3fs", "moto", "mypy", "pytest", "ruff", "onnx", "onnxruntime", "opencv-python-headless")


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """Return the names of the requirements and of all that they need here, by the installed packages' metadata."""
    waiting, done = list(requirements), set[tuple[str, str]]()
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), extra)
            if key not in done:
                done.add(key)
                needs = map(Requirement, distribution(requirement.name).requires or ())
                waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in done}


FOR_RUNNING = closure(DEPENDENCIES)
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))


def test_running_needs_none_of_the_extras_packages() -> None:
    extras = {canonicalize_name(requirement.name) for requirements in EXTRAS.values() for requirement in requirements}
    assert extras.issuperset(name for name in NOT_FOR_RUNNING)
    assert not extras & FOR_RUNNING


def test_the_lock_has_all_that_running_needs_and_every_extra() -> None:
    for requirement in (*DEPENDENCIES, *(requirement for extra in EXTRAS.values() for requirement in extra)):
        assert requirement.specifier.contains(LOCKED[canonicalize_name(requirement.name)])
    assert sorted(FOR_RUNNING - LOCKED.keys()) == []


def test_every_locked_package_has_a_hash_and_no_index_is_named() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    packages = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert all(lines[number].endswith("\\") and "--hash=sha256:" in lines[number + 1] for number in packages)
    assert "://" not in "".join(lines)


@pytest.mark.parametrize("folder", ["ssl_pipeline", "flows"])
def test_what_is_imported_at_once_is_installed_for_running(folder: str) -> None:
    providers = packages_distributions()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names):
                packages = {canonicalize_name(package) for package in providers.get(name, ())}
                assert name in ("ssl_pipeline", "flows") or packages & FOR_RUNNING, f"{path}: {name}"


# A stand-in for Python that "creates" an environment whose uv only writes down its arguments. The locked torch brings
# a folder nvidia, unless a CPU build is there.
PYTHON = """#!/bin/sh
case "$*" in
    *"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$(dirname "$0")/uv" "$3/bin/uv" ;;
esac
"""
UV = """#!/bin/sh
folder=$(dirname "$0")/..
site=$folder/lib/python3.11/site-packages
echo "$@" >> "$folder/calls"
mkdir -p "$site"
case "$*" in
    *--torch-backend*) test ! -e "$folder/../no-index" && touch "$site/cpu" ;;
    *--constraint*) test -e "$site/cpu" || mkdir -p "$site/nvidia" ;;
esac
"""


@dataclass
class Checkout:
    """The Makefile with stand-ins for Python and uv; its environment is a folder of its own."""

    folder: Path

    def make(self, *arguments: str) -> tuple[list[str], str]:
        """Run make; return what uv was told by it, and what was printed."""
        log = self.folder / ".venv/calls"
        log.unlink(missing_ok=True)
        result = subprocess.run(
            ["make", f"PYTHON={self.folder}/python", *arguments],
            cwd=self.folder,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return log.read_text().splitlines() if log.exists() else [], result.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name, text in {"python": PYTHON, "uv": UV}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return Checkout(tmp_path)


def test_setup_installs_by_hashes_and_without_extras_and_setup_dev_adds_them(checkout: Checkout) -> None:
    (locked, editable), _ = checkout.make("setup")
    assert "--require-hashes" in locked and "--constraint requirements.lock" in locked and "extra" not in locked
    assert editable.endswith("--editable .")
    assert checkout.make("setup")[0] == []
    assert checkout.make("setup-dev")[0] == [f"{locked} --all-extras"]
    assert checkout.make("setup", "setup-dev")[0] == []
    assert checkout.make("extra-ray")[0] == [f"{locked} --extra ray"]


def test_no_step_takes_anything_away(checkout: Checkout) -> None:
    calls, _ = checkout.make("setup-dev")
    assert len(calls) == 3
    assert all(call.startswith("pip install ") and "--exact" not in call for call in calls)


def test_torch_cpu_takes_the_locked_versions_from_the_cpu_index_first_and_is_remembered(checkout: Checkout) -> None:
    (cpu, locked, _), printed = checkout.make("setup", "TORCH=cpu")
    pair = f"torch=={LOCKED['torch']} torchvision=={LOCKED['torchvision']}"
    assert cpu.endswith(f"--no-deps --torch-backend cpu {pair}")
    assert "--verify-hashes" in locked and "--no-verify-hashes" not in locked
    assert "TORCH=cpu:" not in printed
    (dev,), _ = checkout.make("setup-dev")
    assert dev == f"{locked} --all-extras"
    (checkout.folder / "requirements.lock").touch()
    assert checkout.make("setup")[0][0] == cpu


def test_without_the_cpu_index_the_locked_build_is_installed_and_one_line_says_so(checkout: Checkout) -> None:
    (checkout.folder / "no-index").touch()
    (cpu, locked, _), printed = checkout.make("setup", "TORCH=cpu")
    assert "--torch-backend" in cpu and "--constraint" in locked
    assert re.findall(r"^TORCH=cpu: .*", printed, re.MULTILINE) == [
        "TORCH=cpu: no CPU build can be had. The locked build is installed; on Linux with CUDA: "
        "about 3.3 GB downloaded, 6.7 GB on disk."
    ]
    assert checkout.make("setup", "TORCH=cpu") == ([], "make: Nothing to be done for 'setup'.\n")


def test_torch_cpu_says_that_an_environment_with_cuda_keeps_it(checkout: Checkout) -> None:
    checkout.make("setup")
    calls, printed = checkout.make("setup", "TORCH=cpu")
    assert not [call for call in calls if "--torch-backend" in call]
    assert "TORCH=cpu: .venv keeps the locked build, with CUDA: about 3.3 GB downloaded, 6.7 GB on disk. " in printed
    assert "Remove .venv to change it." in printed


def test_another_word_for_torch_is_refused(checkout: Checkout) -> None:
    with pytest.raises(AssertionError, match=r"TORCH=gpu: expected cpu"):
        checkout.make("setup", "TORCH=gpu")
