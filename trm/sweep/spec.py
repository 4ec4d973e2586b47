"""Sweeps as they are written down: a YAML file in params/sweeps/, and the points that it stands for.

suite: scaling                  # a name that several files may share
notebook: 04_trm_train          # the chapter that is executed
base: {puzzle: 6x6}             # parameters of every point
cases: {a: {}, b: {lr: 0.01}}   # named changes to the base; a case may have `seeds` of its own
grid: {H_cycles: [1, 2]}        # every case with every combination of these
seeds: [0, 1, 2]
groups: {some: [a, b*]}         # names for parts of the cases
scales:                         # each may have base, cases, grid and seeds, which are laid over those above
  smoke: {base: {max_steps: 2}, seeds: [0]}
  paper: {base_file: 04_paper.yaml}  # a file of params/, under everything else
"""

import fnmatch
import hashlib
import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from trm import text_files
from trm.errors import UserError
from trm.params import HardwareError, ParameterError, Params, plainly, read_yaml
from trm.run import ROOT, checkout, run_id, source_hash, to_json
from trm.sweep.chapters import CHAPTERS, schema_of

SCALES = ("smoke", "laptop", "paper")
NOT_HERE = {"seed": "use `seeds`", "output_dir": "--outputs names the folder", "resume": "a sweep always resumes"}


class SweepError(UserError):
    """A sweep that cannot be run as it is written."""


def _refuse_reserved(values: dict[str, Any], allowed: str = "") -> dict[str, Any]:
    """`values`, if none of the parameters is one that a sweep itself sets."""
    for name, instead in NOT_HERE.items():
        if name in values and name != allowed:
            raise SweepError(f"{name!r} cannot be set here; {instead}")
    return values


def _distinct(values: list) -> list:
    """`values`, if there are any and none stands twice."""
    if not values:
        raise ValueError("has no values, so that there are no points")
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"has {twice[0]!r} twice; a run counts once")
    return values


Values = Annotated[dict[str, Any], AfterValidator(_refuse_reserved)]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(_distinct)]
Grid = Annotated[dict[str, Annotated[list, AfterValidator(_distinct)]], AfterValidator(_refuse_reserved)]


class Case(BaseModel):
    """Changes to the base, kept as `model_extra`, and seeds of its own."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    seeds: Seeds | None = None

    @model_validator(mode="after")
    def _no_reserved_names(self) -> Self:
        _refuse_reserved(self.model_extra)
        return self


class Block(BaseModel):
    """What a file and each of its scales may say."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    base: Values = {}
    cases: dict[str, Case] = {}
    grid: Grid = {}
    seeds: Seeds | None = None


class Scale(Block):
    base_file: str = ""


class SweepSpec(Block):
    """The content of a sweep file."""

    notebook: Literal[tuple(CHAPTERS)]
    suite: str = ""
    groups: dict[str, Annotated[list[str], AfterValidator(_distinct)]] = {}
    scales: dict[Literal[SCALES], Scale] = Field({name: Scale() for name in SCALES}, min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for scale, block in self.scales.items():
            if unknown := set(block.cases) - set(self.cases):
                raise ValueError(f"scales: {scale}: case {min(unknown)!r} is not among the cases of the sweep")
        for group, members in self.groups.items():
            if unknown := [member for member in members if not fnmatch.filter(self.cases, member)]:
                raise ValueError(f"groups: {group}: no case is called {unknown[0]!r} or matches it")
        return self


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    sweep: str
    case: str
    cell: str  # of the grid, such as "H_cycles=2"; empty without one
    seed: int
    values: dict[str, Any]
    params: Params | None = None  # None where this machine cannot run it
    unavailable: str = ""  # why not

    @property
    def name(self) -> str:
        """case, cell and seed as one text."""
        return "/".join(part for part in (self.case, self.cell, f"seed{self.seed}") if part)

    @property
    def config(self) -> str:
        """Hash of the parameters that can change a result, without the seed and whatever the version of the code."""
        values = self.params.result_values() if self.params else self.values
        text = to_json({name: value for name, value in values.items() if name != "seed"}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Sweep(SweepSpec):
    """A sweep file that was read: its content, its name, and where its runs lie."""

    name: str
    path: Path
    outputs: Path = ROOT / "outputs" / "sweeps"

    @property
    def folder(self) -> Path:
        """Where its runs lie."""
        return self.outputs / self.name

    @cached_property
    def code(self) -> str:
        """The version of the sources that its runs are made of."""
        return source_hash(schema_of(self.notebook).COMPUTED_BY)

    def folder_of(self, point: Point) -> Path:
        """Where a point's run lies; points that are equal share it."""
        return self.folder / run_id(point.params, self.code)

    def cases_of(self, name: str) -> list[str]:
        """The cases that `name` stands for: the whole sweep, a group, a case; none if it is nothing here."""
        patterns = ["*"] if name == self.name else self.groups.get(name, [name] if name in self.cases else [])
        return [case for case in self.cases if any(fnmatch.fnmatch(case, pattern) for pattern in patterns)]

    def at(self, scale: str) -> Block:
        """What the file says at a scale: the scale's own block laid over the common one."""
        if scale not in self.scales:
            raise SweepError(f"{self.path.name}: no scale {scale!r}; it has {', '.join(self.scales)}")
        over = self.scales[scale]
        below = read_yaml(checkout() / "params" / over.base_file) if over.base_file else {}
        cases = {}
        for name, case in self.cases.items():
            change = over.cases.get(name, Case())
            cases[name] = Case(**case.model_extra | change.model_extra, seeds=change.seeds or case.seeds)
        base, grid = {**below, **self.base, **over.base}, {**self.grid, **over.grid}
        return Block.model_construct(base=base, cases=cases, grid=grid, seeds=over.seeds or self.seeds or [0])

    def points(self, scale: str, cases: list[str] | None = None, given: dict[str, Any] | None = None) -> list[Point]:
        """Every point of `cases` (None: all) at a scale, checked; `given` parameters are laid over all of them."""
        block, schema = self.at(scale), schema_of(self.notebook)
        given = {schema._own_name(name): value for name, value in _refuse_reserved(given or {}, "seed").items()}
        cells = [dict(zip(block.grid, values)) for values in itertools.product(*block.grid.values())]
        found = []
        for case, cell in itertools.product(self.cases if cases is None else cases, cells):
            text = ",".join(f"{name}={value}" for name, value in cell.items())
            seeds = [given["seed"]] if "seed" in given else block.cases[case].seeds or block.seeds
            for seed in seeds:
                values = {**block.base, **block.cases[case].model_extra, **cell, **given, "seed": seed}
                point = Point(self.name, case, text, seed, values)
                try:
                    found.append(replace(point, params=schema.create(values)))
                except HardwareError as error:
                    found.append(replace(point, unavailable=str(error)))
                except ParameterError as error:
                    where = f"{self.path.name}, point {len(found) + 1} ({point.name}, scale {scale})"
                    raise SweepError(f"{where}: {error}\nnothing was started") from None
        return found


def _describe(error: ValidationError) -> str:
    """The first fault that pydantic found in a sweep, and its field."""
    fault = error.errors()[0]
    where = ": ".join(str(part) for part in fault["loc"] if part != "[key]" and not isinstance(part, int))
    if fault["type"] == "extra_forbidden":
        return f"unknown field {where!r}; there are {', '.join(sorted(SweepSpec.model_fields))}, in a scale base_file"
    if fault["type"] == "missing":
        return f"{where} is missing"
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']}".removeprefix(": ")
    return f"{where} = {fault['input']!r}: {plainly(fault)}"


def read_sweep(path: Path) -> Sweep:
    """The sweep in a file, named after it."""
    content = text_files.read_yaml(path, SweepError)
    try:
        if not isinstance(content, dict):
            raise SweepError("give lines such as `notebook: 04_trm_train`")
        spec = SweepSpec.model_validate({**content, "cases": content.get("cases") or {path.stem: {}}})
    except (ValidationError, SweepError) as error:
        raise SweepError(f"{path.name}: {_describe(error) if isinstance(error, ValidationError) else error}") from None
    return Sweep(name=path.stem, path=path, **dict(spec))


def read_sweeps(folder: Path | None = None) -> dict[str, Sweep]:
    """All sweeps of a folder (None: params/sweeps) by name."""
    folder = folder or checkout() / "params" / "sweeps"
    return {path.stem: read_sweep(path) for path in sorted(folder.glob("*.yaml"))}


def find(names: list[str], pattern: str = "", folder: Path | None = None) -> list[tuple[Sweep, list[str]]]:
    """The sweeps and cases that names stand for: a sweep, a group, a case, SWEEP/CASE or SWEEP/GROUP, a file's path; `pattern`
    adds every case that begins with it or matches it."""
    files = {name: read_sweep(Path(name)) for name in names if name.endswith((".yaml", ".yml"))}
    sweeps = read_sweeps(folder) | {sweep.name: sweep for sweep in files.values()}
    for name, sweep in files.items():
        if (other := sweeps[sweep.name].path) != sweep.path:
            raise SweepError(f"{other} and {name} have one name, {sweep.name}, and so one folder; rename one")
    chosen: dict[str, list[str]] = {name: [] for name in sweeps}
    for name in names:
        of, _, part = name.rpartition("/")
        looked_in = [sweeps[of]] if of in sweeps else sweeps.values()
        hits = {sweep.name: sweep.cases_of(part if of in sweeps else name) for sweep in looked_in}
        whole = files[name] if name in files else sweeps.get(name)
        if whole:  # and not a group or a case of its name
            hits = {whole.name: list(whole.cases)}
        if not any(hits.values()):
            known = [*sweeps, *(group for sweep in sweeps.values() for group in sweep.groups)]
            raise SweepError(f"no sweep, group or configuration {name!r}; sweeps and groups are {', '.join(known)}")
        for sweep, cases in hits.items():
            chosen[sweep] += cases
    if pattern:
        hits = {
            name: [case for case in sweep.cases if case.startswith(pattern) or fnmatch.fnmatch(case, pattern)]
            for name, sweep in sweeps.items()
        }
        if not any(hits.values()):
            raise SweepError(f"--pattern: no configuration begins with {pattern!r} or matches it; `list` shows sweeps")
        for name, cases in hits.items():
            chosen[name] += cases
    if not any(chosen.values()):
        raise SweepError("nothing to run: name a sweep, a group or a configuration; `list` shows them")
    return [(sweeps[name], list(dict.fromkeys(cases))) for name, cases in chosen.items() if cases]
