"""Nothing is unpickled or evaluated, nothing is asked of the network, nothing is written elsewhere; text stays text."""

import ast
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from tests.conftest import ROOT
from trm.escape import in_figure, in_html, in_markdown
from trm.params import ParameterError
from trm.parsing.figures import draw_arcs
from trm.puzzles.params import Halting
from trm.report.claims import ClaimTable
from trm.scaling import figures as scaling_figures

SOURCES = [*(ROOT / "trm").rglob("*.py"), *(ROOT / "book").glob("*.py")]
HOSTILE = "<script>alert(1)</script> $x_{$ `y` | *z*"


def faults(tree):
    """What reads or runs code that comes as data."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"} & {
                name.split(".")[0] for name in names
            }
        elif isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called == "torch.load" and given.get("weights_only") == "True":  # tensors alone, by torch's own reader
                continue
            if called in (
                "eval",
                "exec",
                "compile",
                "os.system",
                "os.popen",
                "torch.load",
                "torch.save",
                "pd.read_pickle",
            ):
                yield called
            if called == "yaml.load" and ast.unparse(node.args[-1]) != "_Loader":  # `trm.sweep.spec`'s, a SafeLoader
                yield called
            yield from (
                f"{word}=True" for word in ("allow_pickle", "trust_remote_code", "shell") if given.get(word) == "True"
            )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_unpickled_or_evaluated(path):
    assert not list(faults(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("code", [
    "import pickle", "from joblib import load", "eval(text)", "torch.load(path)", "torch.load(path, weights_only=False)",
    "np.load(path, allow_pickle=True)",
    "AutoModel.from_pretrained(name, trust_remote_code=True)", "subprocess.run(words, shell=True)", "yaml.load(text, Loader)",
])  # fmt: skip
def test_what_would_be_found(code):
    assert list(faults(ast.parse(code)))


# Refuses every address but this machine's, and every question for one.
OFFLINE = """
import socket, sys
plain = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise SystemExit(f"connects to {address}")
    return plain(self, address)
def lookup(host, *rest, **named):
    raise SystemExit(f"looks up {host}")
socket.socket.connect, socket.getaddrinfo = connect, lookup
"""
EVERYTHING = """
import importlib, pkgutil, trm
for module in pkgutil.walk_packages(trm.__path__, "trm."):
    if module.name != "trm.tpu.xla" and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from trm.cli import main
main(["info"])
from trm.language.lm import load_lm
from trm.latent.reasoner import load_reasoner
from trm.puzzles.solve import shipped_model
shipped_model("6x6"), shipped_model("9x9")
from trm.checkpoint import PRETRAINED
model, tokenizer = load_lm()
for arm in ("thoughts", "direct", "pause", "totals"):
    load_reasoner(PRETRAINED / "latent_reasoner" / arm, model.config.hidden_size, arm == "pause")
"""
TRAINING = """
from trm.params import read_yaml
from trm.puzzles.dataset import load
from trm.puzzles.params import TrmTrain
from trm.puzzles.train import make_model, make_trainer
from trm.run import Run
params = TrmTrain.create(read_yaml(sys.argv[1]) | {"output_dir": sys.argv[2], "max_steps": 2, "log_with": "tensorboard"})
run, data = Run(params, "04_trm_train"), load("4x4", valid_size=4, test_size=4)
make_trainer(make_model(params, data), params, run, data).fit()
run.finish({})
"""


def python(code, *words, cwd=ROOT, home=None):
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "XDG_", "MPL", "TRANSFORMERS_"))
    }
    env |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | ({"HOME": str(home)} if home else {})
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_nothing_is_asked_of_the_network_unless_a_hub_name_is_given(tmp_path):
    python(OFFLINE + EVERYTHING, home=tmp_path)
    with pytest.raises(AssertionError, match="looks up|connects"):  # the guard holds
        python(OFFLINE + "import urllib.request; urllib.request.urlopen('http://example.org')")


def files(folder, *left_out):
    """Path -> time of every file of a folder but those below `left_out`."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in left_out]
        found |= {os.path.join(place, name): os.stat(os.path.join(place, name)).st_mtime_ns for name in names}
    return found


@pytest.mark.slow
def test_a_run_writes_into_its_folder_alone(tmp_path):
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    before = [files(ROOT / name, "__pycache__") for name in ("trm", "book", "params")]
    python(
        OFFLINE + TRAINING,
        ROOT / "params" / "04_smoke.yaml",
        tmp_path / "run",
        cwd=tmp_path / "here",
        home=tmp_path / "home",
    )
    assert before == [files(ROOT / name, "__pycache__") for name in ("trm", "book", "params")]
    assert (tmp_path / "run" / "metrics.json").exists() and not files(tmp_path / "here")
    written = {os.path.relpath(path, tmp_path / "home").split(os.sep)[0] for path in files(tmp_path / "home")}
    assert written <= {".cache", ".config"}, "of libraries"


def test_text_of_data_stays_text_in_figures():
    figure, ax = plt.subplots()
    draw_arcs(ax, [HOSTILE, "costs $5", "$6$"], [0, 1, 1], ["root", HOSTILE, "$\\frac$"], [0, 1, 2])
    runs = pd.DataFrame({"case": [HOSTILE, HOSTILE + "b"], "seed": 0, "test/exact_accuracy": 0.5})
    kinds = scaling_figures.Experiment("e", "kinds", ".*")
    scaling_figures.axes_of(runs, [kinds]).canvas.draw()
    figure.canvas.draw()  # reads formulas
    assert in_figure("$a$ and $") == r"\$a\$ and \$"
    plt.close("all")


def test_text_of_data_stays_text_in_tables():
    table = pd.DataFrame({"x": [HOSTILE, 1.5]}, index=[HOSTILE, "b"])
    assert "<script" not in in_html(table).to_html() and "1.5" in in_html(table).to_html()
    assert in_markdown("a|b`c\nd") == r"`a\|b'c d`"
    row = {
        "id": "i",
        "source": "PoT",
        "claim": HOSTILE,
        "section": HOSTILE,
        "result": HOSTILE,
        "table": HOSTILE,
        "seeds": "3",
    }
    html = ClaimTable(pd.DataFrame([row | {"verdict": "supported"}]), "PoT")._repr_html_()
    assert "<script" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize("label", [HOSTILE, "a/b", "../x"])
def test_a_label_is_a_name(label):  # of files, in Markdown and in figures
    assert Halting.create({"label": "17-clue 1.5+"}).label
    with pytest.raises(ParameterError, match="parameter 'label'"):
        Halting.create({"label": label})
