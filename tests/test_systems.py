"""Operating systems and ways to install: what is missing on them, and paths that people have."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

import trm.run
from tests.conftest import ROOT
from trm.cli import main

SMALL = ["-f", str(ROOT / "params" / "04_smoke.yaml"), "-p", "max_steps", "2", "-p", "test_size", "2", "-p", "valid_size", "2"]


@pytest.mark.parametrize("words", [["sweep", "list"], ["sweep", "status", "s.yaml"], ["sweep", "run", "s.yaml", "--dry-run"],
                                   ["report"], ["report", "--execute", "smoke"]])  # fmt: skip
def test_without_a_checkout_commands_say_what_they_need(tmp_path, monkeypatch, capsys, words):
    monkeypatch.setattr(trm.run, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("notebook: 04_trm_train\n")
    assert main(words) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1 and "checkout" in said.err and str(tmp_path) in said.err


@pytest.mark.slow
def test_an_installed_wheel_works_in_a_checkout_and_says_so_elsewhere(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "trm", source / "trm", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-q", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    shutil.rmtree(source)

    def run(*words, cwd):
        env = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
        code = "import sys; from trm.cli import main; sys.path.remove(''); sys.exit(main())"
        return subprocess.run([sys.executable, "-c", code, *words], cwd=cwd, env=env, capture_output=True, text=True)

    for words in (["info"], ["params", "04"]):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "sudoku_6x6" in run("info", cwd=tmp_path).stdout and "6x6" in run("info", cwd=tmp_path).stdout
    done = run("sweep", "list", cwd=tmp_path)
    assert done.returncode == 2 and "checkout" in done.stderr and done.stderr.count("\n") == 1
    checkout = tmp_path / "checkout"  # with its chapters and sweeps alone, so that the wheel's package is used
    for name in ("book", "params"):
        shutil.copytree(ROOT / name, checkout / name)
    done = run("sweep", "list", cwd=checkout / "book")
    assert done.returncode == 0 and "scaling_research" in done.stdout, done.stderr
