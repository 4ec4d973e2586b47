"""`trm sweep`: run sweeps of chapters, see their state, collect their tables. `trm sweep --help` lists the options."""

import argparse
import math
import sys
from collections import Counter
from pathlib import Path

from trm.errors import UserError, print_in_any_encoding
from trm.params import from_command_line
from trm.sweep import table as tables
from trm.sweep.spec import SCALES, find, read_sweeps


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="trm sweep", description="Sweeps of chapters.")
    actions = parser.add_subparsers(dest="action", required=True)
    chosen = argparse.ArgumentParser(add_help=False)
    add = chosen.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help="sweep, group, configuration, SWEEP/CONFIGURATION or file, several allowed",
    )
    add("--pattern", default="", help="every configuration that begins with this, or matches it")
    add("--scale", choices=SCALES, default="laptop", help="size of the runs (default: laptop)")
    add("--outputs", type=Path, metavar="DIR", help="where runs lie (default: outputs/sweeps)")
    add("-p", nargs=2, action="append", default=[], metavar=("PARAM", "VALUE"), help="for every run")

    add = actions.add_parser("run", parents=[chosen], help="run what is not done yet").add_argument
    add("--jobs", type=int, default=1, help="runs at a time on this machine; its cores are divided among them")
    add("--threads", type=int, default=0, help="threads per run (default: its share of the cores)")
    add("--table", type=Path, metavar="FILE", help="skip the points whose rows stand in this table of `results`")
    add("--dry-run", action="store_true", help="check every point, show what would run, run nothing")
    add("--fail-fast", action="store_true", help="stop at the first failure (default: go on)")
    add("--time-limit", type=float, default=0, metavar="MINUTES", help="of training per run; it can be resumed")
    add("--scheduler", default="", metavar="tcp://HOST:8786", help="workers of a dask scheduler instead")

    actions.add_parser("status", parents=[chosen], help="how many runs are in which state")
    add = actions.add_parser("results", parents=[chosen], help="a table of the complete runs").add_argument
    add("--csv", type=Path, metavar="FILE", help="write every run with all its columns (.csv or .parquet)")
    add("--rows", type=Path, metavar="FILE", help="write the rows of the runs' own tables (.csv or .parquet)")
    add("--table", default="table", metavar="NAME", help="which of their tables: NAME.csv, such as curves")
    actions.add_parser("list", help="the sweeps that there are")
    return parser


def main(words: list[str] | None = None) -> int:
    """Run the command; the exit code: 0 all complete that this machine can run, 1 a run failed, 2 wrong input, 3 runs are
    left over (paused, at work in another sweep, or their scheduler went away), 130 interrupted."""
    print_in_any_encoding()
    args = arguments().parse_args(words)
    try:
        if args.action == "list":
            return list_sweeps()
        given = from_command_line([word for pair in args.p for word in ("-p", *pair)])
        chosen = []
        for sweep, cases in find(args.names, args.pattern):
            if args.outputs:
                sweep = sweep.model_copy(update={"outputs": args.outputs.resolve()})
            chosen.append((sweep, sweep.points(args.scale, cases, given)))
        return {"run": run, "status": status, "results": results}[args.action](args, chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on where it was", file=sys.stderr)
        return 130


def run(args: argparse.Namespace, chosen: list) -> int:
    """Run, or show what would run."""
    if args.jobs < 1 or args.threads < 0 or not 0 <= args.time_limit < math.inf:
        raise UserError("--jobs must be at least 1, --threads and --time-limit at least 0 and finite")
    if args.table:
        before = sum(len(points) for _, points in chosen)
        chosen = [(sweep, tables.not_listed(points, args.table)) for sweep, points in chosen]
        print(f"{before - sum(len(points) for _, points in chosen)} of {before} points stand in {args.table}")
    if args.dry_run:
        for sweep, points in chosen:
            for row in tables.statuses(sweep, points):
                print(f"{row['state']:11} {sweep.name}/{row['point']}  {row['error']}".rstrip())
        print(f"{sum(len(points) for _, points in chosen)} points, all valid; nothing was run")
        return 0
    from trm.sweep import engine

    ended = engine.run(chosen, args.scale, args.jobs, args.threads, args.time_limit, args.scheduler, args.fail_fast)
    print(", ".join(f"{count} {name}" for name, count in ended.items() if count) or "nothing to do")
    return 1 if ended["failed"] else 3 if ended["busy"] or ended["paused"] or ended["left"] else 0


def list_sweeps() -> int:
    """Name, suite and counts of every sweep and group; equal configurations of a sweep are distinct once."""
    for sweep in read_sweeps().values():
        scale = "paper" if "paper" in sweep.scales else next(iter(sweep.scales))
        configs = {(point.case, point.cell): point.config for point in sweep.points(scale)}
        counts = f"{len(configs)} configurations, {len(set(configs.values()))} distinct"
        print(f"{sweep.name} ({sweep.suite or 'no suite'}): {counts}")
        for group in sweep.groups:
            print(f"    {group}: {len(sweep.cases_of(group))}")
    return 0


def status(args: argparse.Namespace, chosen: list) -> int:
    """Counts by state, and a line for every failure."""
    for sweep, points in chosen:
        rows = tables.statuses(sweep, points)
        counts = Counter(row["state"] for row in rows).items()
        print(f"{sweep.name} at scale {args.scale}: " + ", ".join(f"{count} {state}" for state, count in counts))
        for row in (row for row in rows if row["error"]):
            print(f"  {row['state']:11} {row['point']}: {row['error']}")
        scales = {tables.read_mapping(path).get("scale") for path in sweep.folder.glob("*/point.json")}
        if others := sorted(scales - {args.scale, None}):
            print(f"  there are runs at scale {', '.join(others)} too: --scale shows them")
    return 0


def results(args: argparse.Namespace, chosen: list) -> int:
    """The table in short; all of it with --csv, and the runs' own tables together with --rows."""
    import pandas as pd

    table = pd.concat([tables.results(sweep, points) for sweep, points in chosen], ignore_index=True)
    if table.empty:
        raise UserError(f"no complete runs at scale {args.scale}; `run` makes them, `status` shows how far it is")
    print(tables.short(table).to_string(index=False))
    if "code" in table and (old := int((~table["code"].dropna().isin([sweep.code for sweep, _ in chosen])).sum())):
        print(f"note: {old} of these runs were made by another version of the code")
    if args.csv:
        tables.write_table(args.csv, table)
        print(f"{len(table)} runs in {args.csv}")
    if args.rows:
        rows = pd.concat([tables.own_tables(sweep, points, args.table) for sweep, points in chosen], ignore_index=True)
        if rows.empty:
            raise UserError(f"these runs wrote no {args.table}.csv")
        tables.write_table(args.rows, rows)
        print(f"{len(rows)} rows in {args.rows}")
    return 0
