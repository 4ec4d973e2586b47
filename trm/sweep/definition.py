"""Sweeps as they are written down: a YAML file in params/sweeps/, and the points that it stands for.

    suite: scaling                  # a name that several files may share
    notebook: 04_trm_train          # the chapter that is executed
    base: {puzzle: 6x6}             # parameters of every point
    cases: {a: {}, b: {lr: 0.01}}   # named changes to the base
    grid: {H_cycles: [1, 2]}        # every case with every combination of these
    seeds: [0, 1, 2]
    groups: {some: [a, b*]}         # names for parts of the cases
    scales:                         # each may have base, cases, grid and seeds, which are laid over those above
      smoke: {base: {max_steps: 2}, seeds: [0]}
      paper: {base_file: 04_paper.yaml}  # a file of params/, under everything else

A case may have `seeds` of its own. A point is one case, one cell of the grid and one seed. All points are checked by the
chapter's schema before any starts.
"""

import fnmatch
import itertools
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from trm.errors import UserError
from trm.params import HardwareError, ParameterError, Params, read_yaml
from trm.run import ROOT, run_id, source_hash, to_json
from trm.sweep.chapters import CHAPTERS, schema_of

SWEEPS = ROOT / "params" / "sweeps"
SCALES = ("smoke", "laptop", "paper")
FIELDS = {"suite", "notebook", "base", "cases", "grid", "seeds", "groups", "scales"}
LAID_OVER = {"base", "base_file", "cases", "grid", "seeds"}
NOT_HERE = {
    "seed": "use `seeds: [...]`",
    "output_dir": "--outputs names the folder",
    "resume": "a sweep always resumes",
}


class SweepError(UserError):
    """A sweep that cannot be run as it is written."""


class _Loader(yaml.SafeLoader):
    """YAML that refuses a name given twice, where plain YAML keeps the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise SweepError(
                    f"{self.name}, line {line}: a name must be text, as in `name: value`; write it in quotes"
                )
            if key.value in seen:
                raise SweepError(f"{self.name}, line {line}: {key.value!r} is given twice; rename or drop one")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    sweep: str
    case: str
    cell: str  # of the grid, such as "H_cycles=2"; empty without one
    seed: int
    values: dict[str, Any]
    params: Params | None  # None where this machine cannot run it
    unavailable: str = ""  # why not

    @property
    def name(self) -> str:
        """case, cell and seed as one text."""
        return f"{self.case}{'/' + self.cell if self.cell else ''}/seed{self.seed}"

    @cached_property
    def identity(self) -> str:
        """Equal for points that are the same but for their seed."""
        values = self.params.result_values() if self.params else self.values
        return to_json({k: v for k, v in values.items() if k != "seed"}, sort_keys=True)


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read but not yet laid out in points."""

    name: str
    path: Path
    notebook: str
    suite: str = ""
    base: dict[str, Any] = field(default_factory=dict)
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    grid: dict[str, list] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0])
    groups: dict[str, list[str]] = field(default_factory=dict)
    scales: dict[str, dict] = field(default_factory=dict)
    outputs: Path = ROOT / "outputs" / "sweeps"

    @property
    def chapter(self) -> Path:
        """The notebook."""
        return ROOT / "book" / f"{self.notebook}.ipynb"

    @cached_property
    def code(self) -> str:
        """The version of the sources that its runs are made of."""
        return source_hash(schema_of(self.notebook).COMPUTED_BY)

    def cases_of(self, name: str) -> list[str]:
        """The cases that `name` stands for: the whole sweep, a group, a case; none if it is nothing here."""
        if name == self.name:
            return list(self.cases)
        patterns = self.groups.get(name, [name] if name in self.cases else [])
        return [case for case in self.cases if any(fnmatch.fnmatch(case, pattern) for pattern in patterns)]

    def points(self, scale: str, cases: list[str] | None = None, given: dict[str, Any] | None = None) -> list[Point]:
        """Every point of `cases` (None: all) at a scale, checked; `given` parameters are laid over all of them.

        Raises:
            SweepError: one message with every fault of every point, or a scale that the file does not have.
        """
        if scale not in self.scales:
            known = ", ".join(self.scales) or "none"
            raise SweepError(f"{self.path.name}: no scale {scale!r}; it has {known}")
        at = self.scales[scale]
        grid = self.grid | at.get("grid", {})
        cells = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
        base = self.base | at.get("base", {})
        if "base_file" in at:
            base = read_yaml(ROOT / "params" / at["base_file"]) | base
        given = dict(given or {})
        schema, found, faults = schema_of(self.notebook), [], []
        _refuse(given, "-p", allowed="seed")
        try:
            schema.create({name: value for name, value in base.items() if name in schema.model_fields} | given)
        except HardwareError:
            pass  # said of every point
        except ParameterError as error:
            if any(name in str(error) for name in given):
                raise SweepError(f"-p: {error}\nnothing was started") from None
        only_seed = [given.pop("seed")] if "seed" in given else None
        for case in self.cases if cases is None else cases:
            changes = self.cases[case] | (at.get("cases", {}).get(case) or {})
            seeds = only_seed or changes.pop("seeds", at.get("seeds", self.seeds))
            changes.pop("seeds", None)
            for cell in cells:
                values = base | changes | cell
                text = ",".join(f"{name}={value}" for name, value in cell.items())
                for seed in seeds:
                    point = Point(self.name, case, text, seed, values | given | {"seed": seed}, None)
                    try:
                        found.append(Point(**point.__dict__ | {"params": schema.create(point.values)}))
                    except HardwareError as error:
                        found.append(Point(**point.__dict__ | {"unavailable": str(error)}))
                    except ParameterError as error:
                        where = f"{self.path.name}, point {len(found) + len(faults) + 1} ({point.name}, scale {scale})"
                        faults.append(f"{where}: {error}")
        if faults:
            shown = faults[:10] + ([f"... and {len(faults) - 10} more"] if len(faults) > 10 else [])
            raise SweepError("\n".join(shown) + "\nnothing was started")
        return found

    @property
    def folder(self) -> Path:
        """Where its runs lie."""
        return self.outputs / self.name

    def folder_of(self, point: Point) -> Path:
        """Where a point's run lies; points that are equal share it."""
        return self.folder / run_id(point.params, self.code)

    def count(self, scale: str = "paper") -> tuple[int, int]:
        """(configurations, distinct ones): cases and cells of the grid, before and after equal sets count once."""
        scale = scale if scale in self.scales else next(iter(self.scales))
        identities = {(p.case, p.cell): p.identity for p in self.points(scale)}
        return len(identities), len(set(identities.values()))


def read_sweep(path: Path) -> Sweep:
    """The sweep in a file, named after it.

    Raises:
        SweepError: what is wrong with the file, and where.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            loader = _Loader(stream)
            loader.name = path.name
            content = loader.get_single_data()
    except OSError as error:
        raise SweepError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SweepError(f"{path}: is no UTF-8 text ({error})") from None
    except yaml.YAMLError as error:
        raise SweepError(f"{path.name}: {error}") from None
    if not isinstance(content, dict):
        raise SweepError(f"{path.name}: wants lines such as `notebook: 04_trm_train`")
    unknown = set(content) - FIELDS
    if unknown:
        raise SweepError(f"{path.name}: unknown field {min(unknown)!r}; there are {', '.join(sorted(FIELDS))}")
    if str(content.get("notebook")) not in CHAPTERS:
        raise SweepError(f"{path.name}: notebook {content.get('notebook')!r} is none of {', '.join(CHAPTERS)}")
    content = {name: value for name, value in content.items() if value is not None}
    cases = content.get("cases") or {path.stem: {}}
    _check(path.name, content | {"cases": cases}, cases)
    for scale, block in content.get("scales", {}).items():
        unknown = set(block or {}) - LAID_OVER
        if scale not in SCALES or unknown:
            what = f"field {min(unknown)!r}" if unknown else f"scale {scale!r}"
            raise SweepError(f"{path.name}, scales: unknown {what}; a scale is one of {', '.join(SCALES)}, with "
                             f"{', '.join(sorted(LAID_OVER))}")  # fmt: skip
        _check(f"{path.name}, scale {scale}", block or {}, cases)
    values = content | {"cases": {name: case or {} for name, case in cases.items()}}
    values["scales"] = {scale: block or {} for scale, block in content.get("scales", {}).items()}
    values["scales"] = values["scales"] or {scale: {} for scale in SCALES}
    return Sweep(name=path.stem, path=path, **values)


def _check(where: str, block: dict[str, Any], cases: dict[str, Any]) -> None:
    """See to it that all parts of a file, or of one of its scales, are of the kinds they must be.

    Raises:
        SweepError: the first that is not, and what it must be.
    """

    def want(value: Any, kind: type, name: str, what: str) -> Any:
        if not isinstance(value, kind):
            raise SweepError(f"{where}: {name} must be {what}, not {value!r}")
        return value

    def values_of(found: Any, name: str) -> list:
        values = want(found, list, name, "a list such as [1, 2]")
        if not values:
            raise SweepError(f"{where}: {name} has no values, so that there are no points")
        twice = [value for i, value in enumerate(values) if value in values[:i]]
        if twice:
            raise SweepError(f"{where}: {name} has {twice[0]!r} twice; a run counts once")
        return values

    for name in ("suite", "base_file"):
        want(block.get(name, ""), str, name, "text")
    for name in ("base", "cases", "grid", "groups", "scales"):
        want(block.get(name, {}), dict, name, "a mapping")
    _refuse(block.get("base", {}), f"{where}: base")
    for name, values in block.get("grid", {}).items():
        values_of(values, f"grid: {name}")
    _refuse(block.get("grid", {}), f"{where}: grid")
    for name, case in block.get("cases", {}).items():
        if name not in cases:
            raise SweepError(f"{where}: case {name!r} is not among the cases of the sweep")
        _refuse(want(case or {}, dict, f"cases: {name}", "a mapping of parameters"), f"{where}: cases: {name}")
    seeds = {
        "seeds": block.get("seeds"),
        **{f"cases: {n}: seeds": (c or {}).get("seeds") for n, c in block.get("cases", {}).items()},
    }
    for name, found in seeds.items():
        for seed in values_of(found, name) if found is not None else []:
            if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
                raise SweepError(f"{where}: {name} must be whole numbers from 0, not {seed!r}")
    for name, scale in block.get("scales", {}).items():
        want(scale or {}, dict, f"scales: {name}", "a mapping")
    for group, members in block.get("groups", {}).items():
        for member in values_of(members, f"groups: {group}"):
            if not fnmatch.filter(cases, want(member, str, f"groups: {group}", "a list of names")):
                raise SweepError(f"{where}: groups: {group}: no case is called {member!r}, nor like it")


def _refuse(values: dict[str, Any], where: str, allowed: str = "") -> None:
    """Refuse the parameters that are not for a sweep to set.

    Raises:
        SweepError: the first of them, and what to use instead.
    """
    for name, instead in NOT_HERE.items():
        if name in values and name != allowed:
            raise SweepError(f"{where}: {name!r} cannot be set here; {instead}")


def read_sweeps(folder: Path = SWEEPS) -> dict[str, Sweep]:
    """All sweeps of a folder by name."""
    return {path.stem: read_sweep(path) for path in sorted(folder.glob("*.yaml"))}


def find(names: list[str], pattern: str = "", folder: Path = SWEEPS) -> list[tuple[Sweep, list[str]]]:
    """The sweeps and cases that names stand for: a sweep, a group, a case, a file's path; `pattern` adds every case
    that begins with it or matches it.

    Raises:
        SweepError: a name that is nothing, or nothing at all.
    """
    sweeps = read_sweeps(folder)
    files = {name: read_sweep(Path(name)) for name in names if name.endswith((".yaml", ".yml"))}
    for name, sweep in files.items():
        others = [other for other in files if other != name and files[other].name == sweep.name]
        if others:
            raise SweepError(f"{name} and {others[0]} have one name, {sweep.name}, and so one folder; rename one")
    sweeps |= {sweep.name: sweep for sweep in files.values()}
    chosen: dict[str, list[str]] = {}
    for name in names:
        within = [files[name]] if name in files else sweeps.values()
        wanted = files[name].name if name in files else name
        hits = {sweep.name: sweep.cases_of(wanted) for sweep in within if sweep.cases_of(wanted)}
        if not hits:
            known = [*sweeps, *(group for sweep in sweeps.values() for group in sweep.groups)]
            raise SweepError(f"no sweep, group or configuration {name!r}; sweeps and groups are {', '.join(known)}")
        for sweep, cases in hits.items():
            chosen[sweep] = chosen.get(sweep, []) + cases
    if pattern:
        for sweep in sweeps.values():
            hits = [case for case in sweep.cases if case.startswith(pattern) or fnmatch.fnmatch(case, pattern)]
            if hits:
                chosen[sweep.name] = chosen.get(sweep.name, []) + hits
    if not chosen:
        raise SweepError("nothing to run: name a sweep, a group or a configuration; `list` shows them")
    return [(sweeps[name], list(dict.fromkeys(cases))) for name, cases in chosen.items()]
