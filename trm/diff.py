"""`trm diff`: parameters and metrics of two runs side by side. A run is a folder with params.json (`trm.run`)."""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from trm.errors import UserError
from trm.params import Params
from trm.run import ROOT, read_history
from trm.text_files import read_json

USAGE = """Parameters and metrics of two runs, a and b, side by side: what differs, or everything (--all). Of numbers the
difference is b - a, the relative difference (b - a) / |a|. Times and speeds are shown but do not count."""
EPILOG = """A run is its folder (also an arm's, or that of a point of a sweep), the notebook that papermill left of it, the
first characters of its id, or SWEEP/POINT as `trm sweep status` names it; the last two are looked up below outputs/.
Exit code: 0 equal, 1 different, 2 wrong input."""
RUN_LINE = re.compile(r"^run (\w+) in (.*)$", re.M)  # which every chapter prints once its folder is made
# A metric is a time or a speed where one of these is a word of its name, as in train/seconds or latent/speedup.
TIME_WORDS = {"seconds", "second", "milliseconds", "ms", "minutes", "hours", "latency", "speed", "speedup", "decoding"}
MISSING = object()  # in place of a value that a run lacks

Pairs = dict[str, tuple[Any, Any]]  # name -> the values of two runs


class DiffError(UserError):
    """Something given to `trm diff` that is not a run."""


def is_time(name: str) -> bool:
    """Whether a metric is a time or a speed, which differs from one execution to the next."""
    return not TIME_WORDS.isdisjoint(re.split(r"[/_]", name))


def pairs(a: dict[str, Any], b: dict[str, Any]) -> Pairs:
    """Every name of either mapping with both values, in the order of `a`, then of `b`."""
    return {name: (a.get(name, MISSING), b.get(name, MISSING)) for name in a | b}


def unequal(found: Pairs) -> Pairs:
    """Those whose values differ: 1 is not True, and 1 is 1.0."""
    return {name: (a, b) for name, (a, b) in found.items() if a != b or isinstance(a, bool) != isinstance(b, bool)}


def texts(a: Any, b: Any) -> tuple[str, str]:
    """Both values: numbers to six digits, or to all where six do not show the difference; "-" for none."""
    short = _text(a, 6), _text(b, 6)
    return (_text(a), _text(b)) if a != b and short[0] == short[1] else short


def _text(value: Any, digits: int | None = None) -> str:
    if isinstance(value, float) and digits:
        return f"{value:.{digits}g}"
    if value is MISSING:
        return "-"
    if isinstance(value, str) and value and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False)


def changes(a: Any, b: Any) -> tuple[str, str]:
    """b - a and (b - a) / |a| of two numbers; empty where there is none."""
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in (a, b)):
        return "", ""
    return f"{b - a:+.4g}", f"{(b - a) / abs(a):+.2%}" if a else ""


def find_run(given: str, outputs: Path) -> Path:
    """The folder of the run that `given` names: a folder, a notebook, an id or SWEEP/POINT of a run below `outputs`.

    Raises:
        DiffError: it names none, or several.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        return path
    if path.suffix == ".ipynb":
        return _of_notebook(path)
    found = [
        folder
        for folder, run_id, point in _runs_below(outputs)
        if given in (run_id, point) or len(given) >= 4 and run_id.startswith(given)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise DiffError(f"{given}: {len(found)} runs are called so, such as {found[0]} and {found[1]}; give a folder")
    raise DiffError(f"{given}: no such folder, and no run below {outputs} with this id or name")


def _of_notebook(path: Path) -> Path:
    """The folder of the run that a notebook shows: the one that it names, or where both were moved, the one beside it."""
    cells = read_json(path, DiffError).get("cells")
    printed = ""
    with suppress(AttributeError, KeyError, TypeError):  # a notebook of another format
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        printed = "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
    if not (named := RUN_LINE.findall(printed)):
        raise DiffError(f"{path}: shows no run, for its output has no line 'run ID in FOLDER'; execute it first")
    run_id, folder = named[-1]
    for place in (Path(folder), path.parent):
        with suppress(DiffError):
            if read_run(place)[0].get("run_id") == run_id:
                return place
    raise DiffError(f"{path}: its run {run_id} is not in {folder} any more, nor beside the notebook")


def _runs_below(outputs: Path) -> Iterator[tuple[Path, str, str]]:
    """Every run below `outputs` with its id and, of a point of a sweep, SWEEP/POINT."""
    for path in sorted(outputs.rglob("params.json")):
        if any(name.startswith((".", "earlier-")) for name in path.relative_to(outputs).parts[:-1]):
            continue
        with suppress(UserError):  # one that is just being written
            run_id, point = str(read_json(path).get("run_id", "")), ""
            if (path.parent / "point.json").exists():
                about = read_json(path.parent / "point.json")
                parts = [about.get(key, "") for key in ("sweep", "case", "cell")]
                point = "/".join([*filter(None, parts), f"seed{about.get('seed')}"])
            yield path.parent, run_id, point


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What params.json of a run says, and its metrics; None where it is not complete. DiffError: no run, or damaged."""
    if not (folder / "params.json").exists():
        raise DiffError(f"{folder}: not a run, it holds no params.json")
    about = read_json(folder / "params.json", DiffError)
    if not isinstance(about.get("params"), dict):
        raise DiffError(f"{folder / 'params.json'}: names no parameters")
    return about, read_json(folder / "metrics.json", DiffError) if (folder / "metrics.json").exists() else None


def last_row(folder: Path) -> dict[str, Any]:
    """What history.jsonl of a run says of the last step in it."""
    records = read_history(folder)
    return {name: value for r in records if r.get("step") == records[-1].get("step") for name, value in r.items()}


def main(words: list[str] | None = None) -> int:
    """Run the command; the exit code: 0 equal, 1 different, 2 wrong input."""
    options = argparse.ArgumentParser("trm diff", description=USAGE, epilog=EPILOG)
    options.add_argument("runs", nargs=2, metavar="RUN", help="a folder, a notebook, a run id or SWEEP/POINT")
    options.add_argument("--all", action="store_true", help="show what is equal too")
    options.add_argument("--outputs", type=Path, metavar="DIR", help="where ids are looked up (default: outputs)")
    given = options.parse_args(words)
    try:
        folders = [find_run(text, given.outputs or ROOT / "outputs") for text in given.runs]
        abouts, metrics = zip(*map(read_run, folders))
        histories = [last_row(folder) for folder in folders]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, folder, about, found in zip("ab", folders, abouts, metrics):
        facts = [f"{label} {about[key]}" for label, key in (("run", "run_id"), ("code", "code")) if key in about]
        missing = ", NOT COMPLETE (no metrics.json)" * (found is None)
        print(f"{name}: {folder}  {', '.join([str(about.get('chapter', '')), *facts])}{missing}")
    used = [{k: v for k, v in about["params"].items() if k not in Params.NOT_IN_RUN_ID} for about in abouts]
    sections = {"parameters": pairs(*used), "metrics": pairs(*(found or {} for found in metrics))}
    if None in metrics:
        sections["history, last row"] = pairs(*histories)
    counts = {}
    for title, found in sections.items():
        differ = unequal(found)
        counted = [name for name in differ if title == "parameters" or not is_time(name)]
        counts[title] = len(counted), len(found)
        rows = {
            name + " (not counted)" * (name in differ and name not in counted): (*texts(*both), *changes(*both))
            for name, both in (found if given.all else differ).items()
        }
        if rows:
            columns = pd.Index(["a", "b", "difference", "relative"], name=title)
            print("\n" + pd.DataFrame.from_dict(rows, orient="index", columns=columns).to_string())
    different = any(counted for counted, _ in counts.values())
    said = ", ".join(f"{counted} of {total} {title}" for title, (counted, total) in counts.items() if total)
    print(f"\ndifferent: {said}" if different else "\nequal")
    return int(different)
