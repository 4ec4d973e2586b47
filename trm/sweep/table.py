"""What a sweep has come to: the states of its runs, and tables of the complete ones."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from trm.errors import UserError
from trm.params import Params
from trm.run import to_json, write_atomically
from trm.stats import read_table
from trm.sweep.spec import Point, Sweep
from trm.sweep.worker import state
from trm.text_files import read_json

NAMES = ["sweep", "case", "cell"]


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON object; empty where it cannot be read."""
    with suppress(UserError):
        return read_json(path)
    return {}


def statuses(sweep: Sweep, points: list[Point]) -> list[dict[str, str]]:
    """Name, state and error of every point."""
    rows = []
    for point in points:
        found, error = "unavailable", point.unavailable
        if point.params is not None:
            folder = sweep.folder_of(point)
            found = state(folder)
            error = read_mapping(folder / "failed.json").get("error", "") if found == "failed" else ""
        rows.append({"point": point.name, "state": found, "error": error})
    return rows


def results(sweep: Sweep, points: list[Point]) -> pd.DataFrame:
    """One row per point with a complete run: case, cell, seed, config (see `Point.config`), its parameters, its metrics,
    run_id and code (the version of the sources that made it)."""
    rows = []
    for point, folder in _complete(sweep, points):
        about = _mapping(folder / "params.json")
        values = {name: value for name, value in point.params.result_values().items() if name != "seed"}
        row = _names(point) | values | _mapping(folder / "metrics.json")
        rows.append(row | {name: about[name] for name in ("run_id", "code")})
    return pd.DataFrame(rows)


def own_tables(sweep: Sweep, points: list[Point], name: str = "table") -> pd.DataFrame:
    """The rows of `name`.csv of every complete run that wrote one, with case, cell, seed and config before them."""
    found = []
    for point, folder in _complete(sweep, points):
        path = folder / f"{name}.csv"
        if path.exists():
            try:
                rows = read_table(path)
            except UserError as error:
                raise _damaged(path, error) from None
            names = _names(point)
            own = rows.get("seed", point.seed)  # a chapter that trains several seeds counts them from the point's
            rows = rows.assign(**names | {"seed": own})
            found.append(rows[[*names, *(column for column in rows if column not in names)]])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet if `path` ends with .parquet, else as CSV."""
    try:
        if path.suffix == ".parquet":
            table.to_parquet(path, index=False)
        else:
            write_atomically(path, table.to_csv(index=False))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); is there such a folder?") from None


def not_listed(points: list[Point], path: Path) -> list[Point]:
    """The points without a row of the same config and seed in a table of an earlier `results`, from any machine and version of
    the code."""
    table = pd.read_parquet(path) if path.suffix == ".parquet" and path.exists() else read_table(path)
    if missing := [name for name in ("config", "seed") if name not in table]:
        raise UserError(f"{path}: no column {missing[0]}; write it with `trm sweep results --csv FILE`")
    known = set(zip(table["config"].astype(str), table["seed"]))
    return [point for point in points if (point.config, point.seed) not in known]


def _names(point: Point) -> dict[str, object]:
    """The columns that name a point."""
    return {name: getattr(point, name) for name in (*NAMES, "seed", "config")}


def _complete(sweep: Sweep, points: list[Point]) -> list[tuple[Point, Path]]:
    """Every point with a complete run, and the run's folder: of all runs with its parameters, by whichever version of the
    code, the newest."""
    points = [point for point in points if point.params is not None]
    runs: dict[str, Path] = {}
    done = sweep.folder.glob("*/metrics.json") if points else ()
    for path in sorted(done, key=lambda path: path.stat().st_mtime):
        about = _mapping(path.with_name("params.json"))
        if not {"params", "run_id", "code"} <= set(about) or not isinstance(about["params"], dict):
            raise _damaged(path.with_name("params.json"), "it names no parameters")
        runs[_key(points[0].params, about["params"])] = path.parent
    keys = [_key(point.params, point.params.model_dump()) for point in points]
    return [(point, runs[key]) for point, key in zip(points, keys) if key in runs]


def _key(params: Params, values: dict) -> str:
    """The parameters of `values` that can change a result, as one text."""
    kept = {params._own_name(name): value for name, value in values.items() if name not in params.NOT_IN_RUN_ID}
    return to_json(kept, sort_keys=True)


def _mapping(path: Path) -> dict:
    """A JSON file that holds a mapping."""
    try:
        return read_json(path)
    except UserError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"{path} is damaged ({str(why).removeprefix(f'{path}: ')}); remove {path.parent} and run again")


def short(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of the test metrics, per configuration."""
    numbers = table.select_dtypes("number").columns.drop("test/puzzles", errors="ignore")
    shown = [name for name in numbers if name.startswith(("test/", "train/seconds", "model/"))]
    groups = table.groupby(NAMES, sort=False, dropna=False)
    deviations = groups[[name for name in shown if name.startswith("test/")]].std().add_suffix(" ±")
    means = groups[shown].mean().join(deviations.dropna(axis=1, how="all")).round(4)
    return pd.concat([groups.size().rename("runs"), means], axis=1).reset_index()
