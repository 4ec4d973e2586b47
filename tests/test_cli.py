"""The command `trm`: what each subcommand prints, its exit code, and what it loads."""

import subprocess
import sys

import pytest

from trm.cli import COMMANDS, main


def test_help_and_wrong_usage(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"trm {name}" in said for name in COMMANDS)
    for words, message in (([], "usage: trm"), (["swep"], "no command 'swep'; there are sweep"),
                           (["params"], "usage: trm params NN"), (["info", "x"], "usage: trm info")):  # fmt: skip
        assert main(words) == 2
        assert message in capsys.readouterr().err


def test_parameters_of_a_chapter(capsys):
    assert main(["params", "04"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("H_cycles") and "int >= 1" in line for line in lines)
    assert main(["params", "99"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: no chapter '99'") and said.count("\n") == 1


def test_info_names_versions_and_what_ships(capsys):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert f"python {sys.version.split()[0]}" in said and "torch " in said and " threads" in said and "models: " in said


def test_subcommands_pass_their_words_and_exit_code_on(capsys):
    assert main(["sweep", "list"]) == 0 and "scaling_research" in capsys.readouterr().out
    assert main(["sweep", "status", "nothing_of_that_name"]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["report", "--help"])
    assert ended.value.code == 0 and "usage: trm report" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "trm.cli", "params", "04"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 1


@pytest.mark.parametrize("module", ["trm.sweep", "trm.report"])
def test_the_modules_are_commands_too(module):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: trm " in done.stdout
