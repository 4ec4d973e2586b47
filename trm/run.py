"""The folder of a run: params.json first, history.jsonl as it goes, metrics.json last, which means that it is complete."""

import ast
import hashlib
import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError

from trm import lock
from trm.errors import Interrupted, UserError
from trm.params import Params
from trm.text_files import read_json

SOURCES = Path(__file__).resolve().parent.parent  # the folder that holds this package
# The repository: where this package lies; where it is installed without it, the working directory or one above it.
CHAPTER = Path("book", "04_trm_train.ipynb")
ROOT = next((path for path in (SOURCES, Path.cwd(), *Path.cwd().parents) if (path / CHAPTER).exists()), SOURCES)
RUN_FILES = (
    "params.json", "history.jsonl", "metrics.json", "metrics.partial.json", "checkpoints", "best", "model", "figures",
    "arms", "table.csv", "curves.csv", "sentences.csv", "tensorboard", "wandb",
)  # fmt: skip
# Parts of module names that change no result.
NOT_HASHED = {"figures", "plots", "cli", "sweep", "report", "progress", "lock", "interrupt", "threads"}


class RunError(UserError):
    """A run folder that cannot be used as asked."""


def checkout() -> Path:
    """The repository, with chapters and sweeps.

    Raises:
        UserError: this package was installed without them.
    """
    if not (ROOT / CHAPTER).exists():
        what = "sweeps and the report require a checkout of the repository, and trm was installed without one"
        raise UserError(f"{what}: run this command in its folder, not in {Path.cwd()}")
    return ROOT


def write_atomically(path: Path, text: str) -> None:
    """Write `text` under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def to_json(value: Any, **options) -> str:
    """JSON text; nan and infinity become null."""

    def clean(v):
        if isinstance(v, dict):
            return {k: clean(w) for k, w in v.items()}
        if isinstance(v, (list, tuple)):
            return [clean(w) for w in v]
        return None if isinstance(v, float) and not math.isfinite(v) else v

    return json.dumps(clean(value), allow_nan=False, **options)


def import_closure(module: str, root: Path | None = None) -> dict[str, Path]:
    """The modules of this package that `module` imports, directly or not, itself included: name -> file. Read from the
    import statements; nothing is executed. `NOT_HASHED` are left out."""
    root = SOURCES if root is None else root
    found: dict[str, Path] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        path = root.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or NOT_HASHED & set(name.split(".")) or not path.exists():
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                queue += [alias.name for alias in node.names if alias.name.startswith("trm.")]
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "trm":
                queue += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def source_hash(module: str, root: Path | None = None) -> str:
    """Hash of the import closure of the module that computes the results of a chapter (`Params.COMPUTED_BY`)."""
    digest = hashlib.sha256()
    for name, path in sorted(import_closure(module, root).items()):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def commit() -> str:
    """The commit that is checked out, with "+" where files differ from it; "" outside a repository."""
    if not (SOURCES / ".git").exists() or not shutil.which("git"):
        return ""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False).stdout.strip()


def run_id(params: Params, code: str) -> str:
    """Hash of the parameters that can change a result and of the sources (`source_hash`)."""
    text = to_json({"params": params.result_values(), "code": code}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The records of history.jsonl in the folder of a run, without a line that a crash cut off."""
    path, records = folder / "history.jsonl", []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError, RecursionError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


class Run:
    """One run of a chapter, such as "04_trm_train", in a folder of its own: `params.output_dir`, else
    outputs/<chapter>/<run id>. A new run in a used folder moves what lies there into `earlier-N`. The folder is this process's
    alone (`trm.lock`) until `finish`, or its end.

    Raises:
        FolderBusy: another process is at work in the folder.
        RunError: `resume` in a folder whose run had other parameters, or a folder that cannot be written.
    """

    def __init__(self, params: Params, chapter: str):
        self.params, self.chapter = params, chapter
        self.started = time.monotonic()
        self.code = source_hash(params.COMPUTED_BY)
        self.id = run_id(params, self.code)
        self.main = os.environ.get("RANK", "0") == "0"  # of several processes only the first writes
        default = (ROOT if (ROOT / "book").is_dir() else Path.cwd()) / "outputs" / chapter / self.id
        self.dir = Path(params.output_dir).expanduser().resolve() if params.output_dir else default
        if self.main:
            with self._writing(self.dir, held=False):
                self.dir.mkdir(parents=True, exist_ok=True)
                self.hold()
                try:
                    self._keep_or_move_aside()
                    about = {"chapter": chapter, "run_id": self.id, "code": self.code, "commit": commit()}
                    about["params"] = params.model_dump()
                    write_atomically(self.dir / "params.json", to_json(about, indent=2))
                except Exception:
                    lock.release(self.dir)
                    raise

    def hold(self) -> None:
        """Make the folder this process's alone, if it is not. Raises FolderBusy: it is another's."""
        if self.main:
            lock.hold(self.dir)

    def release(self) -> None:
        """Give the folder back, or that of the run it is a part of; `hold` takes it again."""
        if tracker := self.__dict__.pop("tracker", None):  # where one was begun
            tracker.close()
        lock.release(lock.held_above(self.dir) or self.dir)

    @contextmanager
    def _writing(self, path: Path, held: bool = True) -> Iterator[None]:
        """Around what writes: this process must still hold the folder; a full disk becomes a message."""
        if held:
            lock.check(self.dir)
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{error.filename or path} cannot be written ({error.strerror or error}). What was computed is kept: when "
                "it can be written, the same command with `-p resume True` goes on"
            ) from error

    def _keep_or_move_aside(self) -> None:
        before = self.dir / "params.json"
        if self.params.resume and before.exists():
            (self.dir / "metrics.partial.json").unlink(missing_ok=True)
            self._check_same(read_json(before, RunError))
            return
        found = [self.dir / name for name in (*RUN_FILES, *self.params.RUN_FOLDERS) if (self.dir / name).exists()]
        if found:
            aside = self.dir / f"earlier-{1 + len(list(self.dir.glob('earlier-*')))}"
            aside.mkdir()
            for path in found:
                path.rename(aside / path.name)

    def _check_same(self, before: dict[str, Any]) -> None:
        """Refuse to resume a run that had other parameters; say where its numbers may differ."""
        old = {**self.params.model_dump(), **before.get("params", {})}
        now = self.params.result_values()
        changed = {name: f"{name} (was {old[name]!r}, now {now[name]!r})" for name in now if old[name] != now[name]}
        if elsewhere := changed.pop("backend", ""):
            print(f"note: another {elsewhere}; the numbers differ by rounding")
        if changed:
            raise RunError(
                f"cannot resume {self.dir}: other parameters: {', '.join(changed.values())}. Give the old ones, or leave out "
                "`resume` or choose another output_dir for a new run"
            )
        if before.get("code") != self.code:
            print("note: the code has changed since this run began; the numbers may differ from an unbroken run")

    def minutes_left(self, time_limit: float) -> float:
        """What is left of `time_limit` minutes, which all trainings of a run share; 0: no limit."""
        if not time_limit:
            return 0.0
        return max(time_limit - (time.monotonic() - self.started) / 60, 1e-4)

    def path(self, name: str) -> Path:
        """A path in the run's folder; its parent folder is made."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def log(self, record: dict[str, Any]) -> None:
        """Append one record to history.jsonl, and send it to the tracker."""
        path = self.dir / "history.jsonl"
        if self.main:
            with self._writing(path), open(path, "a", encoding="utf-8") as file:
                file.write(to_json(record) + "\n")
            self.tracker.log(record)

    @cached_property
    def tracker(self) -> Any:
        """Where `log_with` sends the run; begun when it is first used."""
        from trm.progress import Tracker

        return Tracker(self)

    def history(self) -> list[dict[str, Any]]:
        """The records of history.jsonl."""
        return read_history(self.dir)

    def rewind(self, step: int) -> None:
        """Drop the records of history.jsonl after `step`, which a resumed run writes again."""
        path = self.dir / "history.jsonl"
        if self.main:
            kept = [record for record in self.history() if record.get("step", 0) <= step]
            with self._writing(path):
                write_atomically(path, "".join(to_json(record) + "\n" for record in kept))

    def save_figure(self, figure, name: str) -> None:
        """Keep a matplotlib figure as figures/<name>.png, or a GIF (bytes) as figures/<name>.gif."""
        if self.main:
            with self._writing(self.dir / "figures"):
                moving = isinstance(figure, bytes)
                path = self.path(f"figures/{name}.{'gif' if moving else 'png'}")
                temporary = path.with_name(f".{name}.tmp")
                if moving:
                    temporary.write_bytes(figure)
                else:
                    figure.savefig(temporary, format="png", dpi=110, bbox_inches="tight")
                os.replace(temporary, path)

    def save_table(self, table: Any, name: str = "table") -> None:
        """Keep a pandas table as `name`.csv, to six digits: "table", one row per arm; "curves", one per evaluation; ..."""
        if self.main:
            with self._writing(self.dir):
                write_atomically(self.path(f"{name}.csv"), table.to_csv(index=False, float_format="%.6g"))

    def save_model(self, model: Any, name: str, *beside: Any) -> None:
        """Keep `model`, and what stands `beside` it such as a tokenizer (anything with `save_pretrained`), as the folder
        `name`, replacing one already there."""
        if not self.main:
            return
        with self._writing(self.dir / name):
            target = self.path(name)
            temporary = target.with_name(f".{target.name}.tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                for part in (model, *beside):
                    part.save_pretrained(temporary)
                shutil.rmtree(target, ignore_errors=True)
                os.replace(temporary, target)
            except SafetensorError as error:  # what safetensors makes of a full disk
                raise OSError(str(error)) from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    @contextmanager
    def resumable(self, step: int = 0, max_steps: int = 0) -> Iterator[None]:
        """Around what comes before the first step of a training, or after `step`, its last: an interrupt says how to go on."""
        try:
            yield
        except Interrupted:
            raise
        except KeyboardInterrupt:
            self.interrupted(step, max_steps)

    def interrupted(self, step: int, max_steps: int) -> NoReturn:
        """Leave metrics.partial.json in the folder of this training and of the run that it is a part of, give that back, and
        raise Interrupted, which says how to go on."""
        if self.main:
            for folder in {self.dir, lock.held_above(self.dir) or self.dir}:
                with self._writing(folder):
                    write_atomically(folder / "metrics.partial.json", to_json({"train/steps": step}))
        self.release()
        where = "interrupted before the first step"
        if step:
            where = f"interrupted at step {step} of {max_steps}\ncheckpoint: {self.dir / 'checkpoints' / f'step_{step:08d}'}"
        raise Interrupted(
            f"{where}\n"
            "to go on: the same command with `-p resume True`; in a notebook `resume = True` in the parameters cell"
        ) from None

    def finish(self, metrics: dict[str, Any], complete: bool = True, quiet: bool = False) -> None:
        """Write metrics.json, the last thing a run does; a paused one writes metrics.partial.json. The tracker gets the metrics
        and all figures, and is closed."""
        if not self.main:
            return
        path = self.path("metrics.json" if complete else "metrics.partial.json")
        with self._writing(path):
            write_atomically(path, to_json(metrics, indent=2))
            if complete:
                (self.dir / "metrics.partial.json").unlink(missing_ok=True)
        self.tracker.finish(metrics, complete)
        lock.release(self.dir)
        if complete and not quiet:
            print(f"complete: {self.dir / 'metrics.json'}")
        elif not complete:
            print(f"paused: the same command with `-p resume True` goes on ({self.dir})")
