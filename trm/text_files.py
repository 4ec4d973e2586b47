"""Text files, read alike everywhere: UTF-8 with or without a byte-order mark, plain, .xz or .gz. A fault is one line that
names the file, the line where there is one, and the fix."""

import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import yaml

from trm.errors import UserError

OPENERS = {".xz": lzma.open, ".gz": gzip.open}


@contextmanager
def reading(path: str | Path, kind: type[UserError] = UserError) -> Iterator[None]:
    """In this context, errors of reading `path` become a `kind`."""
    try:
        yield
    except UnicodeDecodeError:
        with reading(path, kind):
            number = _first_undecodable(path)
        raise kind(f"{path}, line {number}: not UTF-8 text; save it as UTF-8") from None
    except FileNotFoundError:
        raise kind(f"{Path(path).absolute()}: no such file") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise kind(f"{path}: cannot be read to its end ({getattr(error, 'strerror', None) or error})") from None


def _open(path: str | Path, mode: str, **options):
    return OPENERS.get(Path(path).suffix, open)(path, mode, **options)


def _first_undecodable(path: str | Path) -> int:
    with _open(path, "rb") as file:
        return next(number for number, line in enumerate(file, 1) if line.decode(errors="ignore").encode() != line)


@contextmanager
def open_text(path: str | Path, kind: type[UserError] = UserError) -> Iterator[TextIO]:
    """A text file to read, line by line."""
    with reading(path, kind), _open(path, "rt", encoding="utf-8-sig") as file:
        yield file


def read_text(path: str | Path, kind: type[UserError] = UserError) -> str:
    """The whole text of a file."""
    with open_text(path, kind) as file:
        return file.read()


def read_stdin(kind: type[UserError] = UserError) -> str:
    """What stands on stdin, as a file would be read."""
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None:  # replaced, as by a test
        return sys.stdin.read()
    data = buffer.read()
    try:
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise kind(f"stdin, line {number}: not UTF-8 text; save it as UTF-8") from None


def parse_json(text: str, where: object, kind: type[UserError] = UserError) -> Any:
    """The value of a JSON text; `where` is what an error calls it."""
    try:
        value = json.loads(text.strip())
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        what = r"holds one half of a surrogate pair (\ud800 to \udfff), which is not a character"
        raise kind(f"{where}: {what}; remove it") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise kind(f"{where}: is not JSON ({line}column {error.colno}: {error.msg}); fix or remove it") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists in lists
        raise kind(f"{where}: is not JSON ({error}); fix or remove it") from None
    return value


def read_json(path: str | Path, kind: type[UserError] = UserError) -> dict[str, Any]:
    """A JSON file that holds an object."""
    value = parse_json(read_text(path, kind), path, kind)
    if not isinstance(value, dict):
        raise kind(f"{path}: is not a JSON object, {{...}}")
    return value


class _Loader(yaml.SafeLoader):
    """YAML that refuses a name given twice, where plain YAML keeps the last, and one that is not text."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag == "tag:yaml.org,2002:merge":  # `<<: *defaults`
                continue
            if key.tag != "tag:yaml.org,2002:str":
                what = "a name must be text, as in `name: value`; write it in quotes"
            elif key.value in seen:
                what = f"{key.value!r} is given twice; rename or drop one"
            else:
                seen.add(key.value)
                continue
            raise yaml.constructor.ConstructorError(problem=what, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path, kind: type[UserError] = UserError) -> Any:
    """The content of a YAML file."""
    text = read_text(path, kind)
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        what = " ".join(filter(None, (error.context, error.problem)))
        raise kind(f"{path}, line {error.problem_mark.line + 1}: {what}") from None
    except Exception as error:  # PyYAML lets pass whatever int, float, date and the like raise
        raise kind(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
