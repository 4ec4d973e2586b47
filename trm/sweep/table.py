"""What a sweep has come to: the states of its runs, and tables of the complete ones."""

import json
import math
from collections import Counter
from pathlib import Path

import pandas as pd

from trm.errors import UserError
from trm.params import Params
from trm.run import to_json, write_atomically
from trm.stats import read_table
from trm.sweep.spec import Point, Sweep
from trm.sweep.worker import error_of, state

STATES = ("done", "running", "queued", "paused", "failed", "unavailable")
NAMES = ["sweep", "case", "cell"]


def statuses(sweep: Sweep, points: list[Point]) -> list[dict[str, str]]:
    """Name, state and error of every point."""
    rows = []
    for point in points:
        found, error = "unavailable", point.unavailable
        if point.params is not None:
            found = state(sweep.folder_of(point))
            error = error_of(sweep.folder_of(point)) if found == "failed" else ""
        rows.append({"point": point.name, "state": found, "error": error})
    return rows


def counts(rows: list[dict[str, str]]) -> dict[str, int]:
    """How many points are in each state, all states named."""
    found = Counter(row["state"] for row in rows)
    return {name: found[name] for name in STATES}


def results(sweep: Sweep, points: list[Point]) -> pd.DataFrame:
    """One row per point with a complete run: case, cell, seed, config (see `Point.config`), its parameters, its metrics,
    run_id and code (the version of the sources that made it).

    Raises:
        UserError: a file of a complete run is damaged.
    """
    rows = []
    for point, folder in _complete(sweep, points):
        row = _about(sweep, point)
        row |= {name: value for name, value in point.params.result_values().items() if name != "seed"}
        row |= _mapping(folder / "metrics.json")
        row |= {name: _mapping(folder / "params.json")[name] for name in ("run_id", "code")}
        rows.append(row)
    return pd.DataFrame(rows)


def own_tables(sweep: Sweep, points: list[Point], name: str = "table") -> pd.DataFrame:
    """The rows of the file `name`.csv of every complete run whose chapter writes one, with case, cell, seed and config
    before them.

    Raises:
        UserError: a table is damaged.
    """
    found = []
    for point, folder in _complete(sweep, points):
        path = folder / f"{name}.csv"
        if path.exists():
            try:
                rows = pd.read_csv(path)
            except (OSError, ValueError) as error:
                raise UserError(f"{path} is damaged ({error}); remove the folder {folder} and run again") from None
            about = _about(sweep, point)
            found.append(rows.assign(**about)[[*about, *(column for column in rows if column not in about)]])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet if `path` ends with .parquet, else as CSV.

    Raises:
        UserError: it cannot be written.
    """
    try:
        if path.suffix == ".parquet":
            table.to_parquet(path, index=False)
        else:
            write_atomically(path, table.to_csv(index=False))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); is there such a folder?") from None


def not_listed(points: list[Point], path: Path) -> list[Point]:
    """The points without a row in a table of an earlier `results`, from any machine and version of the code.

    A row is a point's if seed and config agree. In a table without the column config, sweep, case and cell and every
    parameter that has a column must agree.

    Raises:
        UserError: the file cannot be read, or has neither a config nor anything else to compare.
    """
    table = pd.read_parquet(path) if path.suffix == ".parquet" and path.exists() else read_table(path, ["seed"])
    if "config" in table:
        known = set(zip(table["config"].astype(str), table["seed"]))
        return [point for point in points if (point.config, point.seed) not in known]
    schema = next((type(point.params) for point in points if point.params), Params)
    columns = {name: schema._own_name(name) for name in table}
    columns = {column: name for column, name in columns.items() if name in schema.model_fields}
    columns = {column: name for column, name in columns.items() if name not in schema.NOT_IN_RUN_ID | {"seed"}}
    if not columns and "case" not in table:
        raise UserError(f"{path}: no column config, case or parameter; write it with `trm sweep results --csv FILE`")
    table = table[[*columns, *(name for name in NAMES if name in table), "seed"]].drop_duplicates()

    def has_row(point: Point) -> bool:
        own = {column: getattr(point.params, name) for column, name in columns.items()}
        own |= {name: getattr(point, name) for name in ("seed", *NAMES) if name in table}
        return any(all(_same(row[name], value) for name, value in own.items()) for row in rows)

    rows = table.to_dict("records")
    return [point for point in points if point.params is None or not has_row(point)]


def _same(cell: object, value: object) -> bool:
    """Whether a cell of a CSV file, where numbers have six digits and "" is NaN, holds `value`."""
    try:
        same = math.isclose(float(cell), float(value), rel_tol=1e-5)
    except (TypeError, ValueError):
        same = False
    return same or str("" if pd.isna(cell) else cell) == str(value)


def _about(sweep: Sweep, point: Point) -> dict[str, object]:
    """The columns that name a point."""
    about = {"sweep": sweep.name, "case": point.case, "cell": point.cell, "seed": point.seed}
    return about | {"config": point.config}


def _complete(sweep: Sweep, points: list[Point]) -> list[tuple[Point, Path]]:
    """Every point with a complete run, and the run's folder.

    A run whose parameters are a point's counts, whichever version of the code made it; of several the newest.
    """
    points = [point for point in points if point.params is not None]
    runs: dict[str, tuple[float, Path]] = {}
    for path in sorted(sweep.folder.glob("*/metrics.json")) if points else ():
        about = _mapping(path.with_name("params.json"))
        if not {"params", "run_id", "code"} <= set(about) or not isinstance(about["params"], dict):
            where = path.with_name("params.json")
            raise UserError(f"{where} is damaged; remove the folder {path.parent} and run again")
        key, age = _key(points[0].params, about["params"]), path.stat().st_mtime
        if key not in runs or age > runs[key][0]:
            runs[key] = age, path.parent
    keys = {id(point): _key(point.params, point.params.model_dump()) for point in points}
    return [(point, runs[keys[id(point)]][1]) for point in points if keys[id(point)] in runs]


def _key(params: Params, values: dict) -> str:
    """The parameters of `values` that can change a result, as one text."""
    kept = {params._own_name(name): value for name, value in values.items() if name not in params.NOT_IN_RUN_ID}
    return to_json(kept, sort_keys=True)


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


def import_wandb(path: Path) -> pd.DataFrame:
    """Rows of a table that W&B exported as CSV, with this book's names: Name becomes case; summary columns are kept.

    Raises:
        UserError: not CSV, no column Name, no rows, or a column under both of its names.
    """
    table = read_table(path)
    if "Name" not in table:
        raise UserError(f"{path}, line 1: no column Name; export the table of runs from W&B as CSV")
    if table.empty:
        raise UserError(f"{path}: no runs after the header")
    for theirs, ours in (("Name", "case"), ("State", "state")):
        if theirs in table and ours in table:
            raise UserError(f"{path}, line 1: has both {theirs} and {ours}, which mean the same here; rename one")
    table = table.rename(columns={"Name": "case", "State": "state"})
    return table.assign(sweep="wandb", cell="", seed=table.get("seed", 0))


def short(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of the test metrics, per configuration."""
    tests = [name for name in table if name.startswith(("test/", "train/seconds", "model/")) and name != "test/puzzles"]
    groups = table.groupby(NAMES, sort=False, dropna=False)
    out = pd.DataFrame({"runs": groups.size()})
    for name in (name for name in tests if pd.api.types.is_numeric_dtype(table[name])):
        out[name] = groups[name].mean().round(4)
        deviation = groups[name].std().round(4)
        if deviation.notna().any() and name.startswith("test/"):
            out[f"{name} ±"] = deviation
    return out.reset_index()
