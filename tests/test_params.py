"""Parameters: what papermill hands over is coerced, what is wrong is said."""

import re
from dataclasses import dataclass

import pytest

from trm.params import INSTEAD, ParameterError, from_command_line, read_yaml
from trm.puzzles.params import DeepSupervision, TrmTrain
from trm.training_params import subset


def test_what_papermill_hands_over_is_coerced():
    params = TrmTrain.create({"lr": "1e-4", "resume": "true", "batch_size": "64", "max_steps": 1e3, "H_cycles": "2"})
    assert (params.lr, params.resume, params.batch_size, params.max_steps) == (1e-4, True, 64, 1000)


@pytest.mark.parametrize("text", ["1e3", "1000", 1000.0, "1000.0"])
def test_whole_numbers_in_any_clothes(text):
    assert TrmTrain.create({"max_steps": text}).max_steps == 1000


def test_numbers_and_lists_where_text_is_meant():
    params = TrmTrain.create({"output_dir": 123, "schedule": [0.2, 1]})
    assert (params.output_dir, params.schedule) == ("123", "0.2, 1")


@pytest.mark.parametrize(
    "values, says",
    [
        ({"schedul": "linear"}, "unknown parameter 'schedul': did you mean 'schedule'?"),
        ({"schedule": "linaer"}, "parameter 'schedule' = 'linaer': no such schedule; did you mean 'linear'?"),
        ({"lr": "fast"}, "parameter 'lr' = 'fast'"),
        ({"lr": float("nan")}, "parameter 'lr'"),
        ({"lr": float("inf")}, "parameter 'lr'"),
        ({"lr": -1}, "greater than 0"),
        ({"batch_size": 1.5}, "parameter 'batch_size' = 1.5"),
        ({"H_cycles": 0}, "greater than or equal to 1"),
        ({"puzzle": "5x5"}, "'4x4', '6x6', '6x6-hard' or '9x9'"),
        ({"backprop": "none"}, "'last', 'per_cycle' or 'full'"),
        ({"schedule": "1, 2, 3"}, "3 weights, but there are 2 steps"),
        ({"step_schedule": "adaptive"}, "step_schedule"),
        ({"batch_size": 10, "grad_accumulation": 3}, "must be a multiple of grad_accumulation"),
        ({"mixer": "attention", "hidden_size": 20}, "multiple of 2 * num_heads"),
        ({"mixer": "houses", "puzzle_tokens": 4}, "puzzle_tokens"),
        ({"initial_noise": 0.1, "input_noise": 0.1}, "one of the two"),
        ({"lr": 1e-3, "learning_rate": 1e-3}, "'lr' is given twice, as 'lr' and as 'learning_rate'"),
        ({"learning_rate": 1e-3, "lr": 1e-3}, "'lr' is given twice, as 'learning_rate' and as 'lr'"),
        ({1: 2}, "unknown parameter 1"),
        ({"resume": "maybe"}, "parameter 'resume' = 'maybe': must be True or False"),
        ({"max_steps": "many"}, "parameter 'max_steps' = 'many': must be a whole number"),
        ({"schedule": "nan, 1"}, "finite"),
        ({"schedule": "exp3"}, "did you mean 'exp2'"),
        ({"step_schedule": "1, 2"}, "parameter 'step_schedule': schedule '1, 2' gives 2 weights"),
        ({"train_size": True}, "parameter 'train_size'"),
        ({"schedule": "1, 0", "curriculum_enabled": True}, "the last step must have a weight"),
        ({"log_with": "tensorbord"}, "tensorboard"),
        ({"precision": "float16", "backend": "cpu"}, "requires CUDA"),
    ],
)
def test_what_is_wrong_is_said(values, says):
    with pytest.raises(ParameterError) as error:
        TrmTrain.create(values)
    assert says in str(error.value)
    assert "validation error" not in str(error.value)


def test_every_fault_is_in_one_message():
    with pytest.raises(ParameterError) as error:
        TrmTrain.create({"lr": -1, "H_cycles": 0})
    assert "'lr'" in str(error.value) and "'H_cycles'" in str(error.value)


def test_the_guides_names_are_aliases():
    params = TrmTrain.create({"deep_supervision_weight": 0.3, "deep_supervision_schedule": "linear_decay"})
    assert (params.supervision_weight, params.schedule) == (0.3, "linear_decay")


def test_parameters_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        TrmTrain().lr = 1.0


def notebook(*cells):
    """globals() of a kernel that has run these cells."""
    namespace = {"In": ["", *cells], "get_ipython": lambda: None}
    for cell in cells:
        exec(cell, namespace)
    return namespace


DEFAULTS = "seed = 0  # a comment\nschedule = 'linear'\nsupervision_weight = 1.0\n"


def test_defaults_then_injected_values():
    namespace = notebook(DEFAULTS, "# Parameters\nschedule = 'none'\nlr = '1e-3'\n", "import math")
    params = TrmTrain.from_notebook(namespace)
    assert (params.schedule, params.lr, params.seed) == ("none", 1e-3, 0)


def test_an_injected_alias_beats_the_default():
    params = TrmTrain.from_notebook(notebook(DEFAULTS, "# Parameters\ndeep_supervision_weight = 0.25\n"))
    assert params.supervision_weight == 0.25


def test_an_unknown_injected_name_stops_the_run():
    with pytest.raises(ParameterError, match="did you mean 'schedule'"):
        TrmTrain.from_notebook(notebook(DEFAULTS, "# Parameters\nschedul = 'none'\n"))


def test_a_slip_in_the_parameters_cell_is_found_and_its_mend_counts():
    slip = DEFAULTS + "H_cycle = 3\n"
    with pytest.raises(ParameterError, match="H_cycles"):
        TrmTrain.from_notebook(notebook(slip))
    mended = notebook(slip, DEFAULTS + "H_cycles = 3\n")
    assert TrmTrain.from_notebook(mended).H_cycles == 3


def test_cells_that_are_no_parameters_do_not_count():
    assert TrmTrain.from_notebook(notebook(DEFAULTS, "x = 3", "def f(): pass")).seed == 0


def test_command_line(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("lr: 1.0e-3\nseed: 4\n", encoding="utf-8")
    assert from_command_line(["-f", str(file), "-p", "seed", "5"]) == {"lr": 1e-3, "seed": "5"}
    renamed = from_command_line(["-f", str(file), "-p", "learning_rate", "5", "-p", "seed", "1"])
    assert renamed == {"learning_rate": "5", "seed": "1"}, "-p wins under its other name too"
    for wrong in (["--lr", "3"], ["-p", "lr"], ["-f", str(tmp_path / "none.yaml")]):
        with pytest.raises(ParameterError):
            from_command_line(wrong)
    file.write_text("- a\n- b\n", encoding="utf-8")
    with pytest.raises(ParameterError, match="name: value"):
        read_yaml(file)


def test_arms():
    assert DeepSupervision.create({"arms": "none, linear/last ,curriculum"}).arms
    for wrong in ("", "none, none", "none/first", "nnoe"):
        with pytest.raises(ParameterError, match="arms"):
            DeepSupervision.create({"arms": wrong})


def test_what_cannot_change_a_result_is_no_part_of_the_run_id():
    one = TrmTrain.create({"output_dir": "a", "resume": True, "time_limit": 3, "log_with": "tensorboard"})
    assert one.result_values() == TrmTrain().result_values()
    assert TrmTrain.create({"seed": 1}).result_values() != TrmTrain().result_values()


def test_flags_of_the_source_projects_work_or_say_what_to_use():
    given = {"gradient_accumulation_steps": 2, "global_batch_size": 8, "ema_rate": 0.5, "learning_rate": 0.01}
    params = TrmTrain.create(given | {"run_name": "x", "prefetch_factor": 2, "torch_compile": True})
    assert (params.grad_accumulation, params.batch_size, params.ema_decay, params.lr) == (2, 8, 0.5, 0.01)
    assert (params.wandb_run_name, params.prefetch, params.compile) == ("x", 2, True)
    for name in INSTEAD:
        with pytest.raises(ParameterError, match=f"unknown parameter '{name}': {re.escape(INSTEAD[name])}"):
            TrmTrain.create({name: 1})
    with pytest.raises(
        ParameterError, match="unknown parameter 'log_csv': this book calls it 'table', and this chapter"
    ):
        TrmTrain.create({"log_csv": "x"})  # an alias of `table`, which chapter 04 does not have


def test_a_cell_need_not_show_every_parameter_and_a_line_may_be_added(capsys):
    cell = "schedule = 'none'  # weights\nH_cycles = 3\nhidden_size = 32"
    injected = "# Parameters\nH_cycles = 2\nlearning_rate = 0.01\n"
    space = {"get_ipython": None, "In": ["", cell, injected], "seed": 5, "schedule": "none", "hidden_size": 32}
    params = TrmTrain.from_notebook(space | {"H_cycles": 2, "learning_rate": 0.01})
    assert (params.schedule, params.H_cycles, params.lr, params.hidden_size) == ("none", 2, 0.01, 32)
    assert params.seed == 0, "a name that no parameters cell assigns is another variable"
    assert capsys.readouterr().out == "parameters: hidden_size = 32, schedule = 'none', lr = 0.01\n"


def test_a_cell_may_hold_more_than_plain_lines():
    cell = (
        "import math\n%matplotlib inline\nH_cycles = L_cycles = 3\nmax_steps: int = 7\nlr = math.sqrt(0.01)\nprint('x')"
    )
    space = {"get_ipython": None, "In": ["", cell, "seed = 4", "x = 1\nparams = TrmTrain.from_notebook(globals())"]}
    params = TrmTrain.from_notebook(
        space | {"lr": 0.1, "x": 1, "H_cycles": 3, "L_cycles": 3, "max_steps": 7, "seed": 4}
    )
    assert (params.H_cycles, params.L_cycles, params.max_steps, params.lr, params.seed) == (3, 3, 7, 0.1, 4)


def test_executed_again_the_cell_counts_and_not_what_later_cells_made_of_its_names():
    first = ["", "hidden_size = 32\nschedule = 'none'", "params = TrmTrain.from_notebook(globals())"]
    later = ["for schedule in ('linear', 'ramp'):\n    pass", "hidden_size = params.hidden_size * 2", "H_cycles = 3"]
    space = {"get_ipython": None, "hidden_size": 64, "schedule": "ramp", "H_cycles": 3}
    params = TrmTrain.from_notebook(space | {"In": first + later + first[-1:]})
    assert (params.hidden_size, params.schedule, params.H_cycles) == (32, "none", 3)
    params = TrmTrain.from_notebook(space | {"In": first + ["hidden_size = 48\nschedule = 'none'"] + first[-1:]})
    assert params.hidden_size == 48
    with pytest.raises(ParameterError, match="unknown parameter 'hidden_sise': did you mean 'hidden_size'"):
        TrmTrain.from_notebook(space | {"In": ["hidden_sise = 3\nseed = 1"]})


def test_the_cell_of_a_script_is_checked_too(tmp_path):
    script = tmp_path / "chapter.py"
    text = '# %% tags=["parameters"]\nhidden_size = 32  # width\nlearning_rate = 0.01\n\n# %%\nseed = 5\n'
    script.write_text(text, encoding="utf-8")
    params = TrmTrain.from_notebook({"__file__": str(script), "hidden_size": 32, "learning_rate": 0.01, "seed": 5})
    assert (params.hidden_size, params.lr, params.seed) == (32, 0.01, 0)
    script.write_text(text.replace("hidden_size", "hidden_sise"), encoding="utf-8")
    with pytest.raises(ParameterError, match="hidden_sise"):
        TrmTrain.from_notebook({"__file__": str(script), "hidden_sise": 32, "learning_rate": 0.01})


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_a_script_lists_its_parameters(tmp_path, monkeypatch, capsys, flag):
    script = tmp_path / "04.py"
    script.write_text("")
    monkeypatch.setattr("sys.argv", [str(script), flag])
    with pytest.raises(SystemExit) as ended:
        TrmTrain.from_notebook({"__file__": str(script)})
    said = capsys.readouterr().out
    assert not ended.value.code and "-p NAME VALUE" in said and TrmTrain.describe() in said


def test_an_unknown_flag_names_the_help():
    with pytest.raises(ParameterError, match="--seed.*--help"):
        from_command_line(["--seed", "3"])


def test_all_parameters_are_described():
    lines = TrmTrain.describe().splitlines()
    assert len(lines) == len(TrmTrain.model_fields)
    (lr,) = [line for line in lines if line.startswith("lr ")]
    assert lr.split() == ["lr", "float", ">", "0", "<=", "1", "0.004", "peak", "learning", "rate"]
    (mixer,) = [line for line in lines if line.startswith("mixer ")]
    assert "'mlp' | 'attention' | 'houses'" in mixer
    (schedule,) = [line for line in lines if line.startswith("schedule ")]
    assert "inverse_u, " in schedule, "a name that is checked is listed"


def test_a_model_takes_a_strict_subset_of_the_parameters():
    @dataclass
    class Config:
        lr: float
        vocabulary: int

    assert subset(Config, TrmTrain(), vocabulary=7) == Config(0.004, 7)
    with pytest.raises(TypeError, match="Config needs vocabulary, which TrmTrain lacks"):
        subset(Config, TrmTrain())


def test_a_file_that_is_not_utf8_is_refused_in_a_line(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_bytes("lr: 0.1 # \xfc".encode("latin-1"))
    with pytest.raises(ParameterError, match=r"p\.yaml, line 1: not UTF-8 text; save it as UTF-8"):
        read_yaml(path)
    path.write_bytes(b"\xef\xbb\xbflr: 0.1\n")
    assert read_yaml(path) == {"lr": 0.1}


@pytest.mark.parametrize(
    "content, says",
    [
        ("lr: é".encode("latin-1"), "line 1: not UTF-8 text; save it as UTF-8"),
        ("a: 1\n# é\n".encode("utf-16"), "line 1: not UTF-8 text; save it as UTF-8"),
        (b"seed: 1\n1: 2\n", "line 2: a name must be text"),
        (b"seed: 1\nlr: 2\nseed: 3\n", "line 3: 'seed' is given twice"),
        (b"a: [1\n", "line 2: "),
        (b"a: \0\n", "is not YAML"),
        (b"a: 2001-99-99\n", "is not YAML"),
        (b"a: !!bool maybe\n", "is not YAML"),
        (b"[" * 3000, "is not YAML"),
    ],
)
def test_a_file_that_is_not_parameters_is_refused_in_a_line(tmp_path, content, says):
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(ParameterError) as error:
        read_yaml(tmp_path / "p.yaml")
    assert f"{tmp_path / 'p.yaml'}" in str(error.value) and says in str(error.value) and "\n" not in str(error.value)
