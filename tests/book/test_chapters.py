"""Chapters executed as a reader executes them: papermill from the root and from elsewhere, a script, bad parameters."""

import json
import os
import subprocess
import sys

import nbformat
import pytest

from tests.book.test_pairs import CHAPTERS, SCHEMAS
from tests.book.test_teaching import solutions
from tests.conftest import ROOT
from trm.report.html import WIDGET

PAPERMILL = [sys.executable, "-m", "papermill"]


def papermill(chapter, out, *options, cwd=ROOT):
    command = [
        *PAPERMILL,
        str(chapter if isinstance(chapter, os.PathLike) else ROOT / "book" / f"{chapter}.ipynb"),
        str(out),
        "--no-progress-bar",
        "--log-output",
        *options,
    ]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def with_solutions(chapter, path):
    """Write the notebook of a chapter with the Python of its solutions as last cells; the number of its own cells."""
    notebook = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", 4)
    own = len(notebook.cells)
    notebook.cells += [nbformat.v4.new_code_cell(text) for language, text in solutions(chapter) if language == "python"]
    nbformat.write(notebook, path)
    return own


def what_is_seen(chapter, notebook, outputs, log):
    """Figures, sliders with a figure, progress and findings, in a notebook that is only looked at."""
    images = [o for o in outputs if "image/png" in o.get("data", {})]
    assert images and all(o.metadata.get("image/png", {}).get("width", 0) <= 910 for o in images)
    widgets = [o.data for c in notebook.cells for o in c.get("outputs", []) if WIDGET in o.get("data", {})]
    cells = [c for c in notebook.cells if "widget" in c.metadata.get("tags", [])]
    assert len(widgets) == len(cells) and all("image/png" in data for data in widgets)
    assert all(WIDGET in o.data for c in cells for o in c.outputs), "one output, which is the widget"
    assert not [o for o in outputs if "object>" in o.get("data", {}).get("text/plain", "")]
    assert "object>" not in log and "\r" not in log
    assert outputs[-1].text.startswith("complete: "), "the last line names the folder"
    findings = [o.data for o in outputs if "text/markdown" in o.get("data", {})]
    assert findings and all(data["text/plain"].split("\n")[-1] in log for data in findings)
    assert ("step 30/30" in log) or chapter != "04_trm_train"


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_script_lists_its_parameters(chapter, tmp_path):
    script = [sys.executable, str(ROOT / "book" / f"{chapter}.py"), "--help"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr
    assert set(SCHEMAS[chapter].model_fields) <= {line.split(" ")[0] for line in done.stdout.splitlines()}
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs_at_smoke_scale_from_another_directory(chapter, tmp_path):
    smoke = ROOT / "params" / f"{chapter[:2]}_smoke.yaml"
    source = tmp_path / f"{chapter}.ipynb"
    own = with_solutions(chapter, source)
    done = papermill(
        source, tmp_path / "out.ipynb", "-f", str(smoke), "-p", "output_dir", str(tmp_path / "run"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Unable to parse" not in done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert all(value is not None for value in metrics.values())
    assert list((tmp_path / "run" / "figures").glob("*.png"))
    notebook = nbformat.read(tmp_path / "out.ipynb", 4)
    parts = sum("injected-parameters" in c.metadata.get("tags", []) for c in notebook.cells)
    notebook.cells = notebook.cells[: own + parts]  # without the solutions
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]
    what_is_seen(chapter, notebook, outputs, done.stderr)
    assert (tmp_path / "out.ipynb").stat().st_size < 3_000_000
    if chapter == "04_trm_train":
        stable = {
            "test/exact_accuracy", "test/cell_accuracy", "test/mean_steps", "test/puzzles", "train/seconds",
            "train/steps", "train/examples_per_second", "model/parameters", "train/puzzles", "flops/training", "flops/answer",
        }  # fmt: skip
        assert stable <= set(metrics)
    if chapter == "09_tpu_scaling":
        measured = ("xla/compiles_after_warmup", "xla/parity_max_abs_diff", "xla/devices")
        assert set(measured) <= set(metrics)
        assert all(
            metrics[f"{name}_measured"] is True or metrics[f"{name}_measured"].count("-") == 2 for name in measured
        )
    if chapter == "05_poh_ablation":
        stable = {"test/uas", "test/las", "test/uas_per_iteration", "parse/sentences_per_second"}
        stable |= {f"ablation/{arm}/uas_{what}" for arm in ("one_iteration", "both") for what in ("mean", "std")}
        assert stable <= set(metrics)
    if chapter == "07_latent_reasoning":
        ways = ("", "_no_thinking", "_chain", "_mean", "_ridge", "_shuffled", "_read_off")
        assert {f"latent/accuracy{way}" for way in ways} | {"latent/gap_recovered", "latent/speedup"} <= set(metrics)
    if chapter == "06_recursive_lm":
        assert {f"recursive_lm/accuracy{end}" for end in ("", "_same_compute", "_chain")} <= set(metrics)
        parts = ("accuracy_trained_lengths", "accuracy_longer")
        assert {f"recursive_lm/{part}{end}" for part in parts for end in ("", "_plain", "_chain")} <= set(metrics)
    if chapter == "08_grpo":
        assert {f"grpo/accuracy_{what}" for what in ("before", "after", "rejection_sampling")} <= set(metrics)


def test_an_unknown_parameter_stops_papermill_before_anything_is_computed(tmp_path):
    done = papermill(
        "04_trm_train", tmp_path / "out.ipynb", "-p", "schedul", "linear", "-p", "output_dir", str(tmp_path / "r")
    )
    assert done.returncode != 0
    assert "unknown parameter 'schedul': did you mean 'schedule'?" in done.stderr
    assert not (tmp_path / "r").exists()


def test_an_unknown_schedule_stops_the_script_with_one_line(tmp_path):
    script = [sys.executable, str(ROOT / "book" / "04_trm_train.py"), "-p", "schedule", "linaer"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "did you mean 'linear'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_script_makes_the_same_run_as_the_notebook(tmp_path):
    options = ["-f", str(ROOT / "params" / "04_smoke.yaml"), "-p", "output_dir", str(tmp_path / "run")]
    script = [sys.executable, str(ROOT / "book" / "04_trm_train.py"), *options]
    env = os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    subprocess.run(script, check=True, capture_output=True, env=env, cwd=tmp_path)
    done = papermill("04_trm_train", tmp_path / "out.ipynb", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        json.loads((tmp_path / p).read_text(encoding="utf-8"))
        for p in ("run/metrics.json", "run/earlier-1/metrics.json")
    )
    assert {k: v for k, v in one.items() if "second" not in k} == {k: v for k, v in two.items() if "second" not in k}
    ids = [
        json.loads((tmp_path / p).read_text(encoding="utf-8"))["run_id"]
        for p in ("run/params.json", "run/earlier-1/params.json")
    ]
    assert ids[0] == ids[1]
