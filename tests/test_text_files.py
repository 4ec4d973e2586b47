"""Text is UTF-8 whatever the locale; what cannot be read is one line."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from trm.errors import UserError
from trm.text_files import read_json, read_text

PLAIN_ASCII = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
SCRIPT = """
import sys
from pathlib import Path
from trm.errors import show_user_errors_plainly
from trm.params import read_yaml
from trm.run import write_atomically
show_user_errors_plainly()
folder = Path(sys.argv[1])
print(read_yaml(folder / "p.yaml"), "0.5 \\u00b1 0.1")
write_atomically(folder / "out.txt", "\\u00b1")
read_yaml(folder / "latin.yaml")
"""


def test_a_locale_without_utf8_changes_nothing(tmp_path):
    (tmp_path / "p.yaml").write_bytes("name: é\n".encode())
    (tmp_path / "latin.yaml").write_bytes("name: é\n".encode("latin-1"))
    command = [sys.executable, "-c", SCRIPT, tmp_path]
    done = subprocess.run(command, env=PLAIN_ASCII, capture_output=True, text=True, encoding="ascii")
    assert done.stdout == "{'name': '?'} 0.5 ? 0.1\n" and done.returncode == 1
    assert done.stderr == f"ParameterError: {tmp_path}/latin.yaml, line 1: not UTF-8 text; save it as UTF-8\n"
    assert (tmp_path / "out.txt").read_bytes() == "±".encode()


@pytest.mark.parametrize(
    "content, says", [(b"a\nb\xff\n", "line 2: not UTF-8 text"), (None, "no such file"), (b"[]", "not a JSON object")]
)
def test_what_cannot_be_read_is_named(tmp_path, content, says):
    path = tmp_path / "a.json"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}.*{says}"):
        read_json(path)
    with pytest.raises(UserError, match=f"{tmp_path}: cannot be read to its end .Is a directory"):
        read_text(tmp_path)
