"""Chapter 01 on a tiny language model: bounds, stages, files, bad input, memory, processes."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.decomposition import IncrementalPCA

from tests.conftest import ROOT, TWO_PROCESSES
from trm.compressor import train as job
from trm.compressor.model import Compressor
from trm.compressor.params import Compression
from trm.errors import UserError
from trm.language.lm import StateReader, smollm3
from trm.language.stories import make_tokenizer
from trm.run import Run

SMALL = {"num_samples": 48, "eval_samples": 16, "sweep_d_values": "4, 8", "d_compressed": 8, "num_epochs": 2}


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(texts=500)


@pytest.fixture(scope="module")
def reader(tokenizer):
    return StateReader(smollm3(tokenizer, 32, 2, seed=0))


@pytest.fixture(scope="module")
def states(tmp_path_factory, reader, tokenizer):
    """The states of stage 1a; tests must not change them."""
    return job.read_stage(*make(tmp_path_factory.mktemp("states")), reader, tokenizer, "1a")


def make(tmp_path, **changes):
    params = Compression.create(SMALL | {"output_dir": str(tmp_path / "run")} | changes)
    return params, Run(params, "01_compressor")


def all_states(of, part="train"):
    return np.concatenate([batch["states"][batch["mask"]] for batch in of.batches[part].in_order()])


def test_the_closed_forms_are_those_of_scikit_learn_and_numpy(reader, states):
    of = states
    train, test = all_states(of).astype(np.float64), all_states(of, "test").astype(np.float64)
    values = np.linalg.eigvalsh(train.T @ train / len(train))[::-1]
    np.testing.assert_allclose(of.sums.moment.eigen(False)[0].numpy(), values, rtol=1e-6, atol=1e-9)
    pca = IncrementalPCA(8, batch_size=100)
    for part in np.array_split(train, 7):
        pca.partial_fit(part)
    exact = np.linalg.eigvalsh(np.cov(train.T, bias=True))[::-1]
    np.testing.assert_allclose(of.sums.moment.eigen(True)[0].numpy(), exact, rtol=1e-6, atol=1e-9)
    back = pca.inverse_transform(pca.transform(test))
    theirs = float(((test - back) ** 2).mean())  # incremental, and so a little off the exact one
    ours = job.evaluation_row(of, of, reader, "pca", 8, job.closed_form("pca", 8, of.sums))["mse"]
    assert ours == pytest.approx(theirs, rel=0.02)


@pytest.mark.slow
def test_descent_comes_to_the_bound_and_stage_1b_goes_on_from_1a(tmp_path, reader, tokenizer):
    params, run = make(tmp_path, num_samples=300, num_epochs=30, early_stopping=False)
    of = job.read_stage(params, run, reader, tokenizer, "1a")
    trained = job.train(params, run, reader, of, "tied", 4)
    x = torch.from_numpy(all_states(of))
    bound = float(of.sums.moment.eigen(centred=False)[0][4:].sum()) / 32
    assert bound <= (trained.model(x) - x).square().mean() <= 1.01 * bound
    home = run.dir / "compressors" / "tied" / "d4"
    assert sorted(p.name for p in home.iterdir()) == ["stage1a", "stage1a_best"]
    assert not list(home.glob("stage1a/checkpoints")) and trained.folder == home / "stage1a"
    thoughts = job.read_stage(params, run, reader, tokenizer, "1b")
    start = job._start(params, run, thoughts, "tied", 4)
    assert torch.equal(start.encoder, trained.model.encoder)
    mean = thoughts.sums.mean
    after = job.train(params, run, reader, thoughts, "tied", 4)
    valid = list(thoughts.batches["valid"].in_order())
    before, later = (job.evaluate(c, valid, mean, reader, outputs=False)["mse"] for c in (start, after.model))
    assert later < before
    again = job.train(params.model_copy(update={"resume": True}), run, reader, thoughts, "tied", 4)
    assert torch.equal(again.model.encoder, after.model.encoder)


@pytest.mark.parametrize("arm", ["affine", "nonlinear", "task_aware"])
def test_training_never_ends_worse_than_it_began(tmp_path, reader, states, arm):
    params, run = make(tmp_path, lr=1.0)  # far too large
    trained, start = job.train(params, run, reader, states, arm, 8).model, job._start(params, run, states, arm, 8)
    name, valid = "kl" if arm == "task_aware" else "mse", list(states.batches["valid"].in_order())
    before, after = (job.evaluate(c, valid, states.sums.mean, reader)[name] for c in (start, trained))
    assert after <= before + 1e-9


def test_states_that_are_not_cached_train_the_same_compressor(tmp_path, reader, tokenizer, states):
    params, run = make(tmp_path, cache=False)
    streamed = job.read_stage(params, run, reader, tokenizer, "1a")
    assert not (run.dir / "states").exists() and states.batches["train"].store is not None
    found = [job.train(params, run, reader, of, "affine", 4).model.encoder for of in (streamed, states)]
    torch.testing.assert_close(*found)


def test_cached_states_are_found_by_other_runs_of_the_same_seed_and_model(tmp_path, reader, tokenizer):
    def files_of(name, reader, **changes):
        params, run = make(tmp_path / name, cache_dir=str(tmp_path / "cache"), **changes)
        mean = job.read_stage(params, run, reader, tokenizer, "1a").sums.mean
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}, mean

    one, mean = files_of("one", reader)
    assert files_of("two", reader, d_compressed=4)[0] == one and len(one) == 3
    assert len(files_of("three", reader, seed=1)[0]) == 6
    found, other = files_of("four", StateReader(smollm3(tokenizer, 32, 2, seed=1)))  # another model of the same name
    assert len(found) == 9 and not torch.allclose(mean, other)


def test_bad_input(tmp_path, reader, tokenizer, states):
    params, run = make(tmp_path)
    for sizes in ({"sweep_d_values": "4, 33"}, {"d_compressed": 33}):
        with pytest.raises(UserError, match="d_compressed 33 is not between 1 and the size of the states, 32"):
            job.read_stage(Compression.create(SMALL | sizes), run, reader, tokenizer, "1a")
    of = dataclasses.replace(states, stage="1b")
    with pytest.raises(UserError, match="stage 1b starts from .*/compressors/tied/d4/stage1a_best"):
        job.train(params, run, reader, of, "tied", 4)
    Compressor(32, 5).save_pretrained(run.dir / "compressors" / "tied" / "d4" / "stage1a_best")
    with pytest.raises(UserError, match="stage1a_best is not a compressor of kind tied, from 32 to 4"):
        job.train(params, run, reader, of, "tied", 4)


def test_a_state_that_is_not_finite_is_named_with_its_batch(tmp_path, reader, tokenizer, monkeypatch):
    params, run = make(tmp_path, cache=False, batch_size=16)
    factors = iter([1.0, torch.nan])
    monkeypatch.setattr(reader, "states", lambda *given, states=reader.states: next(factors) * states(*given))
    with pytest.raises(UserError, match="batch 1 of the hidden states holds a number that is not finite"):
        job.read_stage(params, run, reader, tokenizer, "1a")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"sweep_d_values": "4, x"}, "give different whole numbers"),
        ({"sweep_d_values": "0, 4"}, "give different whole numbers"),
        ({"arms": "tide"}, "no compressor 'tide'"),
        ({"d_compressed": 0}, "greater than or equal to 1"),
        ({"init_from": "x"}, "requires stage 1b"),
        ({"stage": "2"}, "1a"),
    ],
)
def test_parameters_that_cannot_be(values, message):
    with pytest.raises(UserError, match=message):
        Compression.create(values)


def test_the_names_of_llm_trm():
    params = Compression.create({"learning_rate": 1e-3, "torch_compile": True, "sweep_d_values": [64, 128]})
    assert params.lr == 1e-3 and params.compile and params.sizes == [64, 128]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tokens():
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "hidden_states.py"), "--tokens", "10000", "100000"]
    env = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
    assert float(out.split()[-1]) < 1.1  # peak of the larger over that of the smaller


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    options = ["-f", str(ROOT / "params" / "01_smoke.yaml"), "-p", "backend", "cpu", "-p", "problems", "1"]
    options += ["-p", "arms", "tied, task_aware", "-p", "sweep_d_values", "8", "-p", "d_compressed", "8"]
    script = [str(ROOT / "book" / "01_compressor.py"), *options]
    env = os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    runs = {"one": [sys.executable], "two": [sys.executable, *TWO_PROCESSES]}
    for name, command in runs.items():
        whole = [*command, *script, "-p", "output_dir", str(tmp_path / name)]
        done = subprocess.run(whole, check=True, env=env, capture_output=True, text=True)
        assert done.stdout.count(f" in {tmp_path / name}\n") == {"one": 1, "two": 2}[name]  # each process says it
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8")) for name in runs)
    for metric in ("compressor/mse_tied", "compressor/kl_task_aware", "compressor/kl_pca"):
        assert one[metric] == pytest.approx(two[metric], rel=1e-3), metric
    assert (tmp_path / "two" / "compressors" / "tied" / "d8" / "stage1b_best" / "model.safetensors").exists()


def test_a_time_limit_pauses_all_and_resume_continues(tmp_path, reader, states):
    params, run = make(tmp_path, time_limit=1e-4, arms="affine, untied", log_interval=1)
    assert list(job.train_all(params, run, reader, states, [4, 8])) == []
    assert not (run.dir / "compressors" / "untied").exists()
    again, run = make(tmp_path, resume=True, arms="affine, untied", log_interval=1)
    found = [(arm, K) for arm, K, _ in job.train_all(again, run, reader, states, [4, 8])]
    assert found == [("affine", 4), ("untied", 4), ("affine", 8), ("untied", 8)]


def test_what_stage_1b_begins_with_is_looked_for_first(tmp_path, reader):
    params, run = make(tmp_path, stage="1b", arms="tied", init_from=str(tmp_path / "before"))
    Compressor(32, 4).save_pretrained(tmp_path / "before" / "compressors" / "tied" / "d4" / "stage1a_best")
    with pytest.raises(UserError, match="starts from .*/compressors/tied/d8/stage1a_best"):
        job.check_first_stage(params, run, reader)
    foreign = tmp_path / "before" / "compressors" / "tied" / "d8" / "stage1a_best"
    Compressor(32, 8).save_pretrained(foreign)
    job.check_first_stage(params, run, reader)
    (foreign / "config.json").write_text('{"hidden_act": "silu"}', encoding="utf-8")
    with pytest.raises(UserError, match="d8/stage1a_best holds no model"):
        job.check_first_stage(params, run, reader)


def test_the_best_before_a_pause_is_kept(tmp_path, reader, states, monkeypatch):
    params, run = make(tmp_path, time_limit=1e-4, log_interval=1, eval_interval=1)
    assert job.train(params, run, reader, states, "affine", 4) is None
    home = run.dir / "compressors" / "affine" / "d4" / "stage1a"
    found = load_file(home / "best" / "model.safetensors")["encoder"]
    assert not torch.equal(found, job._start(params, run, states, "affine", 4).encoder)
    monkeypatch.setattr(job.Trainer, "fit", lambda self: {"train/steps": 2, "train/seconds": 1.0})  # no more gain
    again, run = make(tmp_path, resume=True, log_interval=1, eval_interval=1)
    assert torch.equal(job.train(again, run, reader, states, "affine", 4).model.encoder, found)
