"""`trm diff`: parameters and metrics of two runs side by side. A run is a folder with params.json (`trm.run`)."""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


class DiffError(UserError):
    """Something given to `trm diff` that is not a run."""


def is_time(name: str) -> bool:
    """Whether a metric is a time or a speed, which differs from one execution to the next."""
    return not TIME_WORDS.isdisjoint(re.split(r"[/_]", name))


@dataclass(frozen=True)
class Difference:
    """A value of two runs, `MISSING` where one has none."""

    a: Any
    b: Any

    @property
    def equal(self) -> bool:
        """Whether both have the same value: 1 is not True, and 1 is 1.0."""
        return self.a == self.b and isinstance(self.a, bool) == isinstance(self.b, bool)

    @property
    def absolute(self) -> float | None:
        """b - a; None unless both are numbers."""
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (self.a, self.b))
        return self.b - self.a if numbers else None

    @property
    def relative(self) -> float | None:
        """(b - a) / |a|; None unless both are numbers and a is not 0."""
        return self.absolute / abs(self.a) if self.absolute is not None and self.a else None

    @property
    def texts(self) -> tuple[str, str]:
        """Both values: numbers to six digits, or to all where six do not show the difference; "-" for none."""
        short = tuple(_text(value, 6) for value in (self.a, self.b))
        return short if self.equal or short[0] != short[1] else (_text(self.a), _text(self.b))

    def as_json(self) -> dict[str, Any]:
        """Both values, with their differences where they have one; a value that is missing is left out."""
        found = {"a": self.a, "b": self.b, "difference": self.absolute, "relative": self.relative}
        kept = ("a", "b") if self.absolute is None else found
        return {name: found[name] for name in kept if found[name] is not MISSING}


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Difference]:
    """Every name of either mapping with both values, equal ones too, in the order of `a`, then of `b`."""
    return {name: Difference(a.get(name, MISSING), b.get(name, MISSING)) for name in a | b}


def unequal(found: dict[str, Difference]) -> dict[str, Difference]:
    """Of the `differences` of metrics those that are not equal, without times and speeds."""
    return {name: one for name, one in found.items() if not one.equal and not is_time(name)}


@dataclass(frozen=True)
class RunFiles:
    """What the folder of a run holds: params.json, metrics.json ({} where it is not complete), the last row of its history."""

    folder: Path
    about: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    complete: bool = False

    @classmethod
    def read(cls, folder: Path) -> "RunFiles":
        """The run in `folder`. DiffError: there is none, or a file is damaged."""
        if not (folder / "params.json").exists():
            raise DiffError(f"{folder}: not a run, it holds no params.json")
        about = read_json(folder / "params.json", DiffError)
        if not isinstance(about.get("params"), dict):
            raise DiffError(f"{folder / 'params.json'}: names no parameters")
        complete = (folder / "metrics.json").exists()
        return cls(folder, about, read_json(folder / "metrics.json", DiffError) if complete else {}, complete)

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters that can change a result."""
        return {name: value for name, value in self.about["params"].items() if name not in Params.NOT_IN_RUN_ID}

    @property
    def last_row(self) -> dict[str, Any]:
        """What history.jsonl says of the last step in it."""
        records = read_history(self.folder)
        last = records[-1].get("step") if records else None
        return {name: value for r in records if r.get("step") == last for name, value in r.items()}

    def __str__(self) -> str:
        facts = [str(self.about.get("chapter", ""))]
        facts += [f"{name} {self.about[k]}" for name, k in (("run", "run_id"), ("code", "code")) if k in self.about]
        return ", ".join(filter(None, [f"{self.folder}  {facts[0]}", *facts[1:]]))


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
    found = [folder for folder, names in _runs_below(outputs) if given in names or _begins(given, names[0])]
    if len(found) == 1:
        return found[0]
    if found:
        raise DiffError(f"{given}: {len(found)} runs are called so, such as {found[0]} and {found[1]}; give a folder")
    raise DiffError(f"{given}: no such folder, and no run below {outputs} with this id or name")


def _begins(given: str, run_id: str) -> bool:
    return len(given) >= 4 and run_id.startswith(given)


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
            if RunFiles.read(place).about.get("run_id") == run_id:
                return place
    raise DiffError(f"{path}: its run {run_id} is not in {folder} any more, nor beside the notebook")


def _runs_below(outputs: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every run below `outputs` with its names: its id and, of a point of a sweep, SWEEP/POINT."""
    for path in sorted(outputs.rglob("params.json")):
        folders = path.relative_to(outputs).parts[:-1]
        if any(name.startswith((".", "earlier-")) for name in folders):
            continue
        with suppress(UserError):  # one that is just being written
            names = [str(read_json(path).get("run_id", ""))]
            if (path.parent / "point.json").exists():
                about = read_json(path.parent / "point.json")
                parts = [about.get(key, "") for key in ("sweep", "case", "cell")]
                names.append("/".join([*filter(None, parts), f"seed{about.get('seed')}"]))
            yield path.parent, names


@dataclass(frozen=True)
class Comparison:
    """Two runs and, under the title of each section, the differences of everything in it."""

    runs: tuple[RunFiles, RunFiles]
    sections: dict[str, dict[str, Difference]]

    def counted(self, title: str) -> dict[str, Difference]:
        """What differs in a section, without times and speeds; a parameter is neither."""
        found = self.sections[title]
        return {name: one for name, one in found.items() if not one.equal} if title == "parameters" else unequal(found)

    @property
    def equal(self) -> bool:
        """Whether nothing differs but times and speeds."""
        return not any(self.counted(title) for title in self.sections)


def compare_runs(a: RunFiles, b: RunFiles) -> Comparison:
    """Two runs: parameters, metrics and, where one of them is not complete, the last rows of their histories."""
    sections = {"parameters": differences(a.params, b.params), "metrics": differences(a.metrics, b.metrics)}
    if not (a.complete and b.complete):
        sections["history, last row"] = differences(a.last_row, b.last_row)
    return Comparison((a, b), sections)


def _text(value: Any, digits: int | None = None) -> str:
    """A value as it is shown."""
    if isinstance(value, float) and digits:
        return f"{value:.{digits}g}"
    if value is MISSING:
        return "-"
    if isinstance(value, str) and value and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False)


def lines_of(found: Comparison, everything: bool) -> Iterator[str]:
    """The comparison as text: the runs, a table for each section, and a last line that sums it up."""
    for name, run in zip("ab", found.runs):
        yield f"{name}: {run}" + ("" if run.complete else ", NOT COMPLETE (no metrics.json)")
    rows: list[tuple[str, ...]] = []
    for title, differing in found.sections.items():
        shown = {name: one for name, one in differing.items() if everything or not one.equal}
        rows += [("",) * 5, (title, "a", "b", "difference", "relative")] if shown else []
        for name, one in shown.items():
            change = "" if one.absolute is None else f"{one.absolute:+.4g}"
            relative = "" if one.relative is None else f"{one.relative:+.2%}"
            note = "" if one.equal or name in found.counted(title) else " (not counted)"
            rows.append((name + note, *one.texts, change, relative))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(5)]
    for row in rows:
        yield "  ".join([f"{row[0]:{widths[0]}}", *(f"{text:>{w}}" for text, w in zip(row[1:], widths[1:]))]).rstrip()
    yield ""
    counts = [f"{len(found.counted(title))} of {len(one)} {title}" for title, one in found.sections.items() if one]
    yield "equal" if found.equal else f"different: {', '.join(counts)}"


def main(words: list[str] | None = None) -> int:
    """Run the command; the exit code: 0 equal, 1 different, 2 wrong input."""
    options = argparse.ArgumentParser("trm diff", description=USAGE, epilog=EPILOG)
    options.add_argument("runs", nargs=2, metavar="RUN", help="a folder, a notebook, a run id or SWEEP/POINT")
    options.add_argument("--all", action="store_true", help="show what is equal too")
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--outputs", type=Path, metavar="DIR", help="where ids are looked up (default: outputs)")
    given = options.parse_args(words)
    try:
        a, b = (RunFiles.read(find_run(text, given.outputs or ROOT / "outputs")) for text in given.runs)
        found = compare_runs(a, b)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.json:
        about = [run.about | {"folder": str(run.folder), "complete": run.complete} for run in found.runs]
        keys = ("folder", "chapter", "run_id", "code", "commit", "complete")
        made = {"equal": found.equal, "runs": [{key: run.get(key) for key in keys} for run in about]}
        for title, differing in found.sections.items():
            kept = {name: one for name, one in differing.items() if given.all or not one.equal}
            made[title.partition(",")[0]] = {name: one.as_json() for name, one in kept.items()}
        print(json.dumps(made, indent=2))
    else:
        print("\n".join(lines_of(found, given.all)))
    return int(not found.equal)
