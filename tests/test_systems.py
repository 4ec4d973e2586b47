"""Operating systems and ways to install: what is missing on them, and paths that people have."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
from accelerate.state import AcceleratorState

import trm.run
from tests.conftest import ROOT
from trm.cli import main
from trm.params import HardwareError, ParameterError
from trm.parsing.params import Parsing
from trm.puzzles.params import TrmTrain
from trm.trainer import make_accelerator

SMALL = [
    "-f",
    str(ROOT / "params" / "04_smoke.yaml"),
    "-p",
    "max_steps",
    "2",
    "-p",
    "test_size",
    "2",
    "-p",
    "valid_size",
    "2",
]


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
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "-q",
        "-w",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    shipped = {path.relative_to(source) for path in (source / "trm").rglob("*") if path.is_file()}
    assert all((tmp_path / "installed" / path).is_file() for path in shipped), "packs, weights and cards too"
    shutil.rmtree(source)

    def run(*words, cwd):
        env = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
        code = "import sys; from trm.cli import main; sys.path.remove(''); sys.exit(main())"
        return subprocess.run([sys.executable, "-c", code, *words], cwd=cwd, env=env, capture_output=True, text=True)

    for words in (["info"], ["params", "04"]):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "sudoku_6x6" in run("info", cwd=tmp_path).stdout and "6x6" in run("info", cwd=tmp_path).stdout
    assert "solved" in run("solve", "4.12........2....4.....5.5..1..3....", cwd=tmp_path).stdout
    assert "usage: trm parse" in run("parse", "--help", cwd=tmp_path).stdout
    for words in (["sweep", "list"], ["report"]):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 2 and "checkout" in done.stderr and done.stderr.count("\n") == 1
    checkout = tmp_path / "checkout"  # with its chapters and sweeps alone, so that the wheel's package is used
    for name in ("book", "params"):
        shutil.copytree(ROOT / name, checkout / name)
    done = run("sweep", "list", cwd=checkout / "book")
    assert done.returncode == 0 and "scaling_research" in done.stdout, done.stderr


# What Linux alone has is hidden from the package, and from no library; the encoding is that of a pipe on Windows.
WINDOWS = """
import builtins, os, sys
plain = builtins.__import__
def without(name, globals=None, *rest, **named):
    if name in ("fcntl", "resource", "pwd", "grp", "termios") and (globals or {}).get("__name__", "").startswith("trm"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return plain(name, globals, *rest, **named)
builtins.__import__ = without
from trm.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("words", [["info"], ["params", "05"], ["sweep", "list"], ["sweep", "status", "example"],
                                   ["sweep", "results", "example"], ["sweep", "run", "example", "--dry-run"]])  # fmt: skip
def test_commands_work_on_windows(tmp_path, words):
    env = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    chosen = ["--outputs", str(tmp_path)] if "example" in words else []
    done = subprocess.run([sys.executable, "-c", WINDOWS, *words, *chosen], cwd=ROOT, env=env, capture_output=True)
    said = done.stderr.decode("cp1252")
    assert b"Traceback" not in done.stderr and done.returncode == (2 if "results" in words else 0), said
    assert "no complete runs" in said if "results" in words else not said


# Modules, functions and signals that Windows or macOS lack; a file that uses them asks for the platform.
LINUX_ALONE = re.compile(
    r"import (fcntl|resource|pwd|grp|termios)\b|os\.(fork|killpg|getpgid|setsid|getuid|mkfifo|statvfs|sched_getaffinity)\b|"
    r"signal\.(SIGKILL|SIGHUP|SIGALRM|setitimer|alarm)|prctl|preexec_fn=|/proc/|/dev/"
)
ASKED = re.compile(r"hasattr\(os|sys\.platform|os\.name")


def test_what_linux_alone_has_is_used_behind_a_question_for_the_platform():
    for path in [*(ROOT / "trm").rglob("*.py"), *(ROOT / "book").glob("*.py")]:
        source = path.read_text(encoding="utf-8")
        assert not LINUX_ALONE.search(source) or ASKED.search(source), path


def test_characters_that_a_terminal_lacks_stop_nothing():
    code = "from trm.errors import print_in_any_encoding; print_in_any_encoding(); print('ä → ±')"
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "? ? ?", done.stderr


@pytest.mark.slow
def test_a_chapter_runs_in_folders_with_spaces_and_umlauts(tmp_path):
    """A checkout, a folder of the run and a file of puzzles."""
    here = tmp_path / "Jörgs Läufe ☂"
    shutil.copytree(
        ROOT, here / "Buch", ignore=shutil.ignore_patterns(".git", "outputs", "tests", "__pycache__", ".venv")
    )
    shutil.copy(ROOT / "trm" / "puzzles" / "packs" / "sudoku_4x4.csv.xz", here / "Rätsel 4.csv.xz")
    command = [sys.executable, "book/04_trm_train.py", *SMALL, "-p", "output_dir", str(here / "ein Lauf")]
    command += ["-p", "data_path", str(here / "Rätsel 4.csv.xz"), "-p", "puzzle", "4x4"]
    env = os.environ | {"PYTHONPATH": str(here / "Buch"), "MPLBACKEND": "agg"}
    done = subprocess.run(command, cwd=here / "Buch", env=env, capture_output=True, text=True)
    assert done.returncode == 0 and (here / "ein Lauf" / "metrics.json").exists(), done.stderr
    done = subprocess.run([sys.executable, "-m", "trm.cli", "info"], cwd=here, env=env, capture_output=True, text=True)
    assert f"repository: {here / 'Buch'}" in done.stdout


@pytest.fixture
def apple(monkeypatch):
    """A machine with an Apple GPU, as far as torch and accelerate tell of it."""
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("accelerate.state.is_mps_available", lambda: True)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("backend, device", [("mps", "mps"), ("auto", "cpu"), ("cpu", "cpu")])
def test_an_apple_gpu_computes_where_it_is_asked_for(apple, backend, device):
    params = TrmTrain.create({"backend": backend})
    assert params.device == device and make_accelerator(params).device.type == device
    assert os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "1"


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"precision": "float16"}, {"compile": True}])
def test_what_an_apple_gpu_cannot_do_is_refused(apple, changes):
    with pytest.raises(ParameterError, match="'mps' requires precision 'float32' and compile False"):
        TrmTrain.create({"backend": "mps"} | changes)


def test_without_an_apple_gpu_mps_is_refused():
    if not torch.backends.mps.is_available():
        with pytest.raises(HardwareError, match="no Apple GPU"):
            Parsing.create({"backend": "mps"})
