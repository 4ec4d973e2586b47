"""Sweep files: what points they stand for, and what is said of a bad one."""

import pytest

from trm.errors import UserError
from trm.sweep.cli import main
from trm.sweep.spec import SweepError, find, read_sweep, read_sweeps

GOOD = """
notebook: 04_trm_train
base: {lr: 0.001}
cases: {a: {}, b: {schedule: none}, c: {lr: 0.001, seeds: [7]}}
grid: {H_cycles: [1, 2]}
seeds: [0, 1]
groups: {ab: [a, "b*"]}
scales: {smoke: {base: {max_steps: 2}, cases: {b: {lr: 0.002}}}, paper: {base_file: 04_paper.yaml, base: {num_aug: 5}}}
"""


def written(tmp_path, text, name="s.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_points_by_hand(tmp_path):
    sweep = read_sweep(written(tmp_path, GOOD))
    points = sweep.points("smoke")
    names = [point.name for point in points]
    assert names[:4] == ["a/H_cycles=1/seed0", "a/H_cycles=1/seed1", "a/H_cycles=2/seed0", "a/H_cycles=2/seed1"]
    assert names[8:] == ["c/H_cycles=1/seed7", "c/H_cycles=2/seed7"]
    assert {point.params.lr for point in points if point.case == "b"} == {0.002}
    assert {point.params.max_steps for point in points} == {2}
    assert len({point.config for point in points}) == 4  # c is a, but for the seeds
    assert [point.seed for point in sweep.points("smoke", ["c"], {"seed": 5})] == [5, 5]  # one for each cell
    paper = sweep.points("paper", ["a"], {"lr": 0.5})[0].params
    assert (paper.hidden_size, paper.num_aug, paper.lr) == (512, 5, 0.5)  # file, then base, then what was given


def test_names_stand_for_sweeps_groups_cases_and_patterns(tmp_path):
    written(tmp_path, GOOD)
    for names in ([], ["s"]):
        with pytest.raises(SweepError, match="--pattern: no configuration begins with 'zz'"):
            find(names, "zz", tmp_path)
    for names, pattern, cases in ((["s"], "", "abc"), (["ab"], "", "ab"), (["c", "a"], "", "ca"), ([], "b", "b")):
        [(sweep, found)] = find(names, pattern, tmp_path)
        assert sweep.name == "s" and found == list(cases)
    with pytest.raises(SweepError, match="no sweep, group or configuration 'd'"):
        find(["d"], "", tmp_path)
    with pytest.raises(SweepError, match="nothing to run"):
        find([], "", tmp_path)
    [(outside, _)] = find([str(written(tmp_path, GOOD, "mine.yaml"))], "", tmp_path / "none")
    assert outside.name == "mine"


@pytest.mark.parametrize(
    "change, message",
    [
        (("notebook: 04_trm_train", "notebook: 99_none"), "notebook = '99_none': Input should be '00_watch_it_think'"),
        (("seeds: [0, 1]", "seeds: []"), "seeds: has no values"),
        (("notebook: 04_trm_train", ""), "s.yaml: notebook is missing"),
        (("[1, 2]}", "[]}"), "grid: H_cycles: has no values"),
        (("b: {schedule", "a: {schedule"), "line 4: 'a' is given twice"),
        (("schedule: none", "schedul: none"), r"point \d+ \(b/H_cycles=1/seed0, scale smoke\): unknown parameter 'schedul'"),
        (("max_steps: 2", "max_steps: 0"), "point 1 .*'max_steps' = 0"),
        (("seeds: [0, 1]", "seed: 3"), "unknown field 'seed'"),
        (("smoke:", "tiny:"), "scales: tiny = 'tiny': Input should be 'smoke', 'laptop' or 'paper'"),
        (("b: {lr: 0.002}", "z: {lr: 0.002}"), "case 'z' is not among the cases"),
        (("04_paper.yaml", "04_pper.yaml"), "04_pper.yaml"),
        (("grid: {", "grid: ["), "s.yaml, line 5: while parsing"),
        (("cases: {a: {}, b: {schedule: none}, c: {lr: 0.001, seeds: [7]}}", "cases: [a]"), "cases = .* valid dictionary"),
        (("base: {lr: 0.001}", "base:"), "base = None: Input should be a valid dictionary"),
        (("b: {lr: 0.002}", "b: "), "scales: smoke: cases: b = None: Input should be a valid dictionary"),
        (("b: {schedule: none}", "b: "), "s.yaml: cases: b = None: Input should be a valid dictionary"),
        (("cases: {a: {}, b: {schedule: none}, c: {lr: 0.001, seeds: [7]}}", "suite:"), "suite = None: must be text"),
        (("a: {}", "a: 3"), "cases: a = 3: Input should be a valid dictionary"),
        (("[1, 2]}", "'12'}"), "grid: H_cycles = '12': Input should be a valid list"),
        (("[1, 2]}", "[1, 2, 1]}"), "grid: H_cycles: has 1 twice"),
        (("seeds: [0, 1]", "seeds: [0, true]"), "seeds = True: must be a whole number"),
        (("seeds: [0, 1]", "seeds: [0, -1]"), "seeds = -1: Input should be greater than or equal to 0"),
        (("seeds: [7]", "seeds: 7"), "cases: c: seeds = 7: Input should be a valid list"),
        (("base: {lr: 0.001}", "base: {seed: 3}"), "base: 'seed' cannot be set here; use `seeds"),
        (("H_cycles: [1, 2]", "seed: [1, 2]"), "grid: 'seed' cannot be set here"),
        (("b: {schedule: none}", "b: {resume: true}"), "cases: b: 'resume' cannot be set here"),
        (("base: {lr: 0.001}", "base: {lr: }"), "parameter 'lr' = None"),
        (('[a, "b*"]', "[a, z]"), "groups: ab: no case is called 'z'"),
        (("base_file: 04_paper.yaml", "base_file: 3"), "scales: paper: base_file = 3"),
        (("base: {lr: 0.001}", "base: {? [a, b] : 2}"), "line 3: a name must be text"),
    ],
)  # fmt: skip
def test_a_bad_file_gets_one_clear_message(tmp_path, change, message):
    assert change[0] in GOOD
    path = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(UserError, match=message):
        for scale in ("smoke", "paper"):
            read_sweep(path).points(scale)


def test_a_file_is_read_as_utf8(tmp_path):
    (tmp_path / "s.yaml").write_bytes(b"notebook: \xff")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert read_sweep(tmp_path / "bom.yaml").notebook == "04_trm_train"
    with pytest.raises(SweepError, match="s.yaml, line 1: not UTF-8 text; save it as UTF-8"):
        read_sweep(tmp_path / "s.yaml")


def test_a_file_stands_for_itself_alone(tmp_path):
    text = "notebook: 04_trm_train\nscales: {smoke: {}}"
    [(sweep, cases)] = find([str(written(tmp_path, text, "exp01.yaml"))])
    assert sweep.name == "exp01" and cases == ["exp01"]  # not the group of that name
    (tmp_path / "p").mkdir()
    with pytest.raises(SweepError, match="have one name, exp01"):
        find([str(tmp_path / "exp01.yaml"), str(written(tmp_path / "p", text, "exp01.yaml"))])
    written(tmp_path, text + "\ncases: {exp01: {}, b: {}}", "other.yaml")
    [(sweep, cases)] = find(["exp01"], folder=tmp_path)
    assert sweep.name == "exp01" and cases == ["exp01"]  # nor the case of another sweep
    assert [sweep.name for sweep, _ in find(["b"], folder=tmp_path)] == ["other"]


def test_a_case_that_several_sweeps_have_is_named_with_its_sweep():
    assert [(sweep.name, cases) for sweep, cases in find(["poh_rates/standard"])] == [("poh_rates", ["standard"])]
    [(sweep, cases)] = find(["poh_ablation/deciding"])
    assert sweep.name == "poh_ablation" and cases == ["one_iteration", "standard", "deep_supervision"]
    with pytest.raises(SweepError, match="no sweep, group or configuration 'poh_rates/exp01a'"):
        find(["poh_rates/exp01a"])


@pytest.mark.parametrize(
    "words, message",
    [
        (["-p", "lr", "abc"], "parameter 'lr' = 'abc'"),
        (["-p", "output_dir", "x"], "'output_dir' cannot be set here; --outputs"),
        (["--time-limit", "nan"], "--time-limit at least 0"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--scheduler", "nonsense"], "no scheduler answers at nonsense (an address is such as tcp://HOST:8786)"),
        (["--outputs", __file__], "cannot be written"),
    ],
)
def test_a_bad_command_gets_one_clear_message(tmp_path, capsys, words, message):
    before = ["run", "example", "--scale", "smoke", "--outputs", str(tmp_path)]
    assert main(before + words) == 2
    said = capsys.readouterr()
    assert message in said.err and len(said.err.splitlines()) <= 3 and not list(tmp_path.glob("*/*"))


def test_a_fault_in_the_fortieth_point_starts_nothing(tmp_path, capsys):
    sizes = ", ".join(str(0 if i == 40 else i) for i in range(1, 51))
    text = f"notebook: 04_trm_train\ngrid: {{batch_size: [{sizes}]}}\nscales: {{smoke: {{}}}}"
    out = tmp_path / "out"
    assert main(["run", str(written(tmp_path, text)), "--scale", "smoke", "--outputs", str(out)]) == 2
    said = capsys.readouterr().err
    assert "point 40 (s/batch_size=0/seed0, scale smoke)" in said and said.count("batch_size") <= 3
    assert not out.exists()


def test_the_suites_have_the_counts_of_their_guides():
    sweeps = read_sweeps()
    scaling, tpu = sweeps["scaling_research"], sweeps["tpu_quickstart"]
    counts = {f"exp{i:02}": n for i, n in enumerate((6, 6, 5, 5, 11, 6, 6, 3, 5, 5), start=1)}
    assert {name: len(scaling.cases_of(name)) for name in counts} == counts
    assert sum(counts.values()) == 58 and len(scaling.cases_of("contributions")) == 10
    for group, name, values in (("exp01", "hidden_size", [256, 384, 512, 768, 1024, 1536]),
                                ("exp07", "batch_size", [768 * 2**k for k in range(1, 7)])):  # fmt: skip
        points = scaling.points("paper", scaling.cases_of(group))
        assert [point.values[name] for point in points if point.seed == 0] == values
    named = {
        "e1": "1_baseline 3_batch_512 3_batch_1024",
        "e2": "1_ema_off 2_t2_n2 2_t2_n6 2_t3_n4 2_t3_n6 2_t4_n6 3_attention 4_nsup_8",
        "e3": "1_large_model 2_more_data",
        "e4": "1_lr_search 2_longer_training 3_deeper_model 4_no_warmup 5_larger_batch",
    }
    named = [f"{phase}_{name}" for phase, names in named.items() for name in names.split()]
    assert sorted(tpu.cases) == sorted([*named, "e1_2_seeds"]) and len(named) == 18
    assert len(tpu.cases_of("tn_sweep")) == 5


@pytest.mark.parametrize("name", sorted(set(read_sweeps()) - {"example"}))
@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_point_is_valid_at_every_scale(name, scale):
    if scale not in read_sweeps()[name].scales:
        pytest.skip("one size of compressors only")
    points = read_sweeps()[name].points(scale)
    missing = [point.name for point in points if point.params is None]
    assert all(name.startswith("exp08c") for name in missing)  # float16 wants CUDA, and says so


def test_list_status_results_and_dry_run_before_anything_was_run(tmp_path, capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "scaling_research (trm_scaling_research): 69 configurations, 59 distinct" in said
    assert "19 configurations" in said and "    tn_sweep: 5" in said
    words = ["example", "--scale", "smoke", "--outputs", str(tmp_path)]
    assert main(["status", *words]) == 0 and capsys.readouterr().out == "example at scale smoke: 4 queued\n"
    assert main(["results", *words]) == 2 and "no complete runs" in capsys.readouterr().err
    assert main(["run", *words, "--dry-run"]) == 0 and "nothing was run" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
