"""What a sweep has come to: its states, and a table of its runs."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd

from trm.errors import UserError
from trm.run import to_json
from trm.sweep.definition import Point, Sweep
from trm.sweep.worker import error_of, state

STATES = ("done", "running", "queued", "paused", "failed", "unavailable")


def statuses(sweep: Sweep, points: list[Point]) -> list[dict[str, str]]:
    """Name, state and error of every point."""
    rows = []
    for point in points:
        if point.params is None:
            rows.append({"point": point.name, "state": "unavailable", "error": point.unavailable})
            continue
        folder = sweep.folder_of(point)
        found = state(folder)
        rows.append({"point": point.name, "state": found, "error": error_of(folder) if found == "failed" else ""})
    return rows


def counts(rows: list[dict[str, str]]) -> dict[str, int]:
    """How many points are in each state, all states named."""
    found = Counter(row["state"] for row in rows)
    return {name: found[name] for name in STATES}


def results(sweep: Sweep, points: list[Point]) -> pd.DataFrame:
    """One row for every point with a complete run: case, cell, seed, its parameters, its metrics, run_id and code (the
    version of the sources that made it).

    Raises:
        UserError: a file of a complete run is damaged; its name, and the mend.
    """
    rows = [
        {"sweep": sweep.name, "case": point.case, "cell": point.cell, "seed": point.seed}
        | {name: value for name, value in point.params.result_values().items() if name != "seed"}
        | _mapping(folder / "metrics.json")
        | {name: _mapping(folder / "params.json")[name] for name in ("run_id", "code")}
        for point, folder in _complete(sweep, points)
    ]
    return pd.DataFrame(rows)


def own_tables(sweep: Sweep, points: list[Point]) -> pd.DataFrame:
    """The rows of every complete run's own table.csv, where its chapter writes one, with case, cell and seed before them.

    Raises:
        UserError: a table is damaged.
    """
    found = []
    for point, folder in _complete(sweep, points):
        path = folder / "table.csv"
        if path.exists():
            try:
                rows = pd.read_csv(path)
            except (OSError, ValueError) as error:
                raise UserError(f"{path} is damaged ({error}); remove the folder {folder} and run again") from None
            about = {"sweep": sweep.name, "case": point.case, "cell": point.cell, "seed": point.seed}
            found.append(rows.assign(**about)[[*about, *(name for name in rows if name not in about)]])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _complete(sweep: Sweep, points: list[Point]) -> list[tuple[Point, Path]]:
    """Every point with a complete run, and the run's folder.

    A run whose parameters are a point's counts, whichever version of the code made it; of several the newest.
    """
    if not any(point.params for point in points):
        return []
    runs: dict[str, tuple[float, Path]] = {}
    for path in sorted(sweep.folder.glob("*/metrics.json")):
        about = _mapping(path.with_name("params.json"))
        if not {"params", "run_id", "code"} <= set(about) or not isinstance(about["params"], dict):
            raise UserError(
                f"{path.with_name('params.json')} is damaged; remove the folder {path.parent} and run again"
            )
        key = _key(about["params"], points)
        if key not in runs or path.stat().st_mtime > runs[key][0]:
            runs[key] = (path.stat().st_mtime, path.parent)
    keys = {id(point): _key(point.params.model_dump(), points) for point in points if point.params is not None}
    return [(point, runs[keys[id(point)]][1]) for point in points if keys.get(id(point)) in runs]


def _mapping(path: Path) -> dict:
    """A JSON file that holds a mapping.

    Raises:
        UserError: it is damaged.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        found = error
    if not isinstance(found, dict):
        why = found if isinstance(found, Exception) else "it holds no mapping"
        raise UserError(f"{path} is damaged ({why}); remove the folder {path.parent} and run again")
    return found


def _key(values: dict, points: list[Point]) -> str:
    """The parameters that can change a result, as one text."""
    schema = next(type(point.params) for point in points if point.params is not None)
    kept = {name: value for name, value in values.items() if name not in schema.NOT_IN_RUN_ID}
    return to_json(kept, sort_keys=True)


def import_wandb(path: Path) -> pd.DataFrame:
    """Rows of a table that W&B exported as CSV, with this book's names: Name becomes case, and summary columns are kept.

    Raises:
        UserError: no CSV, no column Name, no rows, or a column under both of its names.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a CSV table ({error})") from None
    if "Name" not in table:
        raise UserError(f"{path}, line 1: no column Name; export the table of runs from W&B as CSV")
    if table.empty:
        raise UserError(f"{path}: no runs after the header")
    for theirs, ours in (("Name", "case"), ("State", "state")):
        if theirs in table and ours in table:
            raise UserError(f"{path}, line 1: has both {theirs} and {ours}, which mean the same here; rename one")
    table = table.rename(columns={"Name": "case", "State": "state"})
    if "seed" not in table:
        table["seed"] = 0
    return table.assign(sweep="wandb", cell="")


def short(table: pd.DataFrame) -> pd.DataFrame:
    """The columns worth a look: names, what differs between the rows, and test metrics; mean and deviation over seeds."""
    if table.empty:
        return table
    tests = [name for name in table if name.startswith(("test/", "train/seconds", "model/")) and name != "test/puzzles"]
    values = [name for name in tests if pd.api.types.is_numeric_dtype(table[name])]
    if not values:
        return table[["sweep", "case", "cell", "seed"]]
    stats = table.groupby(["sweep", "case", "cell"], sort=False, dropna=False)[values].agg(["mean", "std"])
    out = pd.DataFrame({"runs": table.groupby(["sweep", "case", "cell"], sort=False, dropna=False).size()})
    for name in values:
        out[name] = stats[name]["mean"].round(4)
        if stats[name]["std"].notna().any() and name.startswith("test/"):
            out[f"{name} ±"] = stats[name]["std"].round(4)
    return out.reset_index()
