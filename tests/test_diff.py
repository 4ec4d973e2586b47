"""`trm diff`: two runs side by side, how a run may be named, exit codes; and which metrics are times."""

import json
import re

import nbformat
import pytest

from trm.cli import main
from trm.diff import MISSING, find_run, is_time, pairs, texts, unequal
from trm.params import Params

METRICS = {"test/exact_accuracy": 0.5, "train/steps": 100, "train/seconds": 7.0, "test/by_step": [0.1, 0.5]}
PARAMS = {"seed": 0, "lr": 0.004, "mixer": "mlp", "data_path": "", "output_dir": "/here"}


def make(folder, run_id="0123456789ab", metrics=METRICS, history=(), **params):
    folder.mkdir(parents=True)
    about = {"chapter": "04_trm_train", "run_id": run_id, "code": "c0de", "params": PARAMS | params}
    (folder / "params.json").write_text(json.dumps(about), encoding="utf-8")
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
    return folder


def diff(capsys, *words):
    """Exit code, lines of stdout, stderr."""
    code = main(["diff", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


def row(lines, name):
    (line,) = [line for line in lines if line.startswith(f"{name} ")]
    return re.split(r"\s{2,}", line.rstrip())[1:]


def test_what_differs_is_shown_with_both_differences(tmp_path, capsys):
    a = make(tmp_path / "a")
    other = {"test/exact_accuracy": 0.6, "train/steps": 100, "train/seconds": 9.0, "test/loss": 0.25}
    b = make(tmp_path / "b", metrics=other, lr=0.002, mixer="houses", output_dir="/there")
    code, lines, _ = diff(capsys, a, b)
    assert code == 1
    assert row(lines, "test/exact_accuracy") == ["0.5", "0.6", "+0.1", "+20.00%"]
    assert row(lines, "lr") == ["0.004", "0.002", "-0.002", "-50.00%"]
    assert row(lines, "mixer") == ["mlp", "houses"]
    assert row(lines, "test/by_step") == ["[0.1, 0.5]", "-"] and row(lines, "test/loss") == ["-", "0.25"]
    assert not [line for line in lines if line.startswith(("train/steps", "seed", "output_dir"))]
    assert lines[-1] == "different: 2 of 4 parameters, 3 of 5 metrics"
    _, lines, _ = diff(capsys, "--all", a, b)
    assert row(lines, "train/steps") == ["100", "100", "+0", "+0.00%"] and row(lines, "data_path") == ['""', '""']


def test_times_are_shown_and_do_not_count(tmp_path, capsys):
    a, b = make(tmp_path / "a"), make(tmp_path / "b", metrics=METRICS | {"train/seconds": 14.0}, output_dir="/there")
    code, lines, _ = diff(capsys, a, b)
    assert code == 0 and lines[-1] == "equal"
    assert row(lines, "train/seconds (not counted)") == ["7", "14", "+7", "+100.00%"]
    names = ("train/seconds", "train/examples_per_second", "latent/speedup", "seconds_retry_over_fixed", "lm/ms")
    assert all(map(is_time, names))
    assert not any(map(is_time, ("test/mean_steps", "flops/training", "test/items", "test_time/accuracy_restarts")))


def test_a_run_that_is_not_complete_shows_its_last_row(tmp_path, capsys):
    rows = [{"step": 5, "train/total_loss": 2.0}, {"step": 10, "train/total_loss": 1.0, "train/seconds": 3.0},
            {"step": 10, "valid/loss": 1.5}]  # fmt: skip
    a, b = make(tmp_path / "a", metrics=None, history=rows), make(tmp_path / "b", history=[{"step": 5}])
    code, lines, _ = diff(capsys, a, b)
    assert code == 1 and "NOT COMPLETE" in lines[0] and "NOT COMPLETE" not in lines[1]
    assert row(lines, "step") == ["10", "5", "-5", "-50.00%"]
    assert row(lines, "train/total_loss") == ["1", "-"] and row(lines, "valid/loss") == ["1.5", "-"]
    code, lines, _ = diff(capsys, a, a)
    assert code == 0 and lines[-1] == "equal"


@pytest.mark.parametrize("a, b, equal, shown", [
    (0.1, 0.10000000001, False, ("0.1", "0.10000000001")), (1 / 3, 0.25, False, ("0.333333", "0.25")),
    (1, 1.0, True, ("1", "1")), (1, True, False, ("1", "true")), (None, 0, False, ("null", "0")),
    ("a\nb", MISSING, False, ('"a\\nb"', "-")),
])  # fmt: skip
def test_values_that_differ_are_shown_to_differ(a, b, equal, shown):
    assert (not unequal({"x": (a, b)})) is equal and texts(a, b) == shown
    assert pairs({"x": 1}, {"x": 2, "y": b}) == {"x": (1, 2), "y": (MISSING, b)}


def test_parameters_that_change_no_result_are_left_out(tmp_path, capsys):
    a, b = make(tmp_path / "a"), make(tmp_path / "b", **dict.fromkeys(Params.NOT_IN_RUN_ID, "other"))
    assert diff(capsys, a, b)[0] == 0


def notebook(path, line):
    output = nbformat.v4.new_output("stream", text=f"note\n{line}\n")
    cell = nbformat.v4.new_code_cell("run", outputs=[output], execution_count=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def test_how_a_run_may_be_named(tmp_path):
    outputs = tmp_path / "outputs"
    one = make(outputs / "04_trm_train" / "0123456789ab")
    make(outputs / "04_trm_train" / "0123456789ab" / "earlier-1")
    make(outputs / ".check" / "x")
    point = make(outputs / "sweeps" / "s" / "abc", run_id="fedcba987654")
    (point / "point.json").write_text(json.dumps({"sweep": "s", "case": "c", "cell": "", "seed": 2}), encoding="utf-8")
    assert find_run(str(one), outputs) == one
    for name in ("0123456789ab", "0123"):
        assert find_run(name, outputs) == one
    assert find_run("s/c/seed2", outputs) == find_run("fedcb", outputs) == point
    named = notebook(outputs / "04.ipynb", f"run 0123456789ab in {one}")
    moved = notebook(point / "run.ipynb", "run fedcba987654 in /gone")
    assert find_run(str(named), outputs) == one and find_run(str(moved), outputs) == point


def test_what_is_not_a_run_is_refused_in_one_line(tmp_path, capsys):
    outputs = tmp_path / "outputs"
    good = make(outputs / "good")
    make(outputs / "again")
    (tmp_path / "list.ipynb").write_text("[]", encoding="utf-8")
    damaged = make(tmp_path / "damaged")
    (damaged / "metrics.json").write_text('{"a": ', encoding="utf-8")
    empty = make(tmp_path / "empty")
    (empty / "params.json").write_text("{}", encoding="utf-8")
    wrong = {
        tmp_path: "not a run, it holds no params.json", "nothing": "no such folder, and no run below",
        "0123": "2 runs are called so", "012": "no such folder", damaged: "is not JSON", empty: "names no parameters",
        tmp_path / "list.ipynb": "is not a JSON object", tmp_path / "gone.ipynb": "no such file",
        notebook(tmp_path / "no.ipynb", "hello"): "shows no run",
        notebook(tmp_path / "other.ipynb", f"run aaaa in {good}"): "its run aaaa is not in",
    }  # fmt: skip
    for given, message in wrong.items():
        code, lines, said = diff(capsys, "--outputs", outputs, good, given)
        assert code == 2 and not lines and message in said, (given, said)
        assert said.startswith("error: ") and said.count("\n") == 1
