"""Training of chapter 07: parts without common problems, arms, resuming to the bit, stored states, baselines, bad input."""

import json
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trm.errors import UserError
from trm.language.stories import problems
from trm.latent import evaluate
from trm.latent import train as job
from trm.latent.data import Data, encode, from_problem
from trm.latent.frozen_lm import FrozenLM
from trm.latent.params import LATENT_ARMS, LatentReasoning
from trm.latent.reasoner import load_reasoner
from trm.params import ParameterError
from trm.run import Run

TINY = dict(
    eval_checkpoint="trained", num_latents=2, d_compressed=8, hidden_size=16, num_heads=2, H_cycles=2, max_problem_steps=3,
    num_samples=24, batch_size=8, max_steps=4, lm_loss_start=1, lm_loss_every=2, warmup_steps=1, eval_interval=2,
    checkpoint_interval=2, log_interval=1, valid_size=6, test_size=64, max_new_tokens=20, backend="cpu",
)  # fmt: skip
TIMES = ("train/seconds", "train/seconds_per_step")


def params_of(folder="unused", **changes):
    return LatentReasoning.create(TINY | {"output_dir": str(folder)} | changes)


@pytest.fixture(scope="module")
def data():
    return job.load(params_of(), None)


def trained(folder, data, **changes):
    params = params_of(folder, **changes)
    run = Run(params, "07_latent_reasoning")
    return job.train(params, run, data), run


def history(run):
    return [{k: v for k, v in record.items() if k not in TIMES} for record in run.history()]


def test_no_problem_is_in_two_parts():
    found = job.load(params_of(num_samples=2000, valid_size=300, test_size=300, max_problem_steps=6), None).parts
    told_apart = {part: {(one.calculations, one.answer) for one in some} for part, some in found.items()}
    assert not told_apart["train"] & told_apart["test"] and not told_apart["train"] & told_apart["valid"]
    assert not told_apart["valid"] & told_apart["test"] and {one.steps for one in found["test"]} == {2, 3, 4, 5, 6}
    again = job.load(params_of(num_samples=20, valid_size=30, test_size=300, max_problem_steps=6, seed=4), None).parts
    assert again["test"] == found["test"] and again["train"] == found["train"][:20], "the same problems for every seed"


@pytest.mark.parametrize(
    "arm", [pytest.param(a, marks=pytest.mark.slow if a != "thoughts" else ()) for a in LATENT_ARMS]
)
def test_every_arm_trains_and_leaves_the_language_model_alone(tmp_path, data, arm, monkeypatch):
    before = {name: value.clone() for name, value in data.lm.lm.state_dict().items()}
    asked = []
    monkeypatch.setattr(FrozenLM, "after", lambda *given, call=FrozenLM.after: asked.append(1) or call(*given))
    found, run = trained(tmp_path, data, arm=arm)
    assert len(asked) == {"thoughts": 2, "answer_alone": 4, "pause": 4, "distill_alone": 4}.get(arm, 0)
    assert all(torch.equal(value, before[name]) for name, value in data.lm.lm.state_dict().items())
    last = found.history[-1]
    assert "valid/accuracy" in last and ("valid/distance" in last) == arm.startswith("state")
    assert ("valid/latent_1" in last) == (arm != "pause" and not arm.startswith("state"))
    kept = load_reasoner(run.path("model"), data.lm.hidden_size, arm == "pause")
    for name, value in kept.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name]), "what is judged is what is kept"
    assert not run.path("states/x").parent.joinpath("prompts").exists(), "states do not stay"


@pytest.mark.slow
def test_a_run_that_is_cut_off_and_resumed_ends_with_the_same_numbers(tmp_path, data, monkeypatch):
    whole, unbroken = trained(tmp_path / "whole", data, max_steps=6)

    def dies(self, step, call=job.ThoughtBatches.__call__):
        if step == 3:
            raise KeyboardInterrupt
        return call(self, step)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(job.ThoughtBatches, "__call__", dies)
        trained(tmp_path / "cut", data, max_steps=6)
    again, resumed = trained(tmp_path / "cut", data, max_steps=6, resume=True)
    assert history(unbroken) == history(resumed)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    assert trained(tmp_path / "cut", data, max_steps=9, time_limit=1e-9)[0] is None, "paused"


def test_states_are_computed_once(tmp_path, data, monkeypatch):
    params = params_of(tmp_path, cache_dir=str(tmp_path / "kept"))
    run, encoded = Run(params, "07_latent_reasoning"), encode(data.lm, data.parts["train"], 2)
    reasoner = job.make_reasoner(params, data, encoded, "thoughts")
    store = job.compressed_states(params, run, data.lm, reasoner, encoded)
    ids = torch.tensor([encoded[5].prompt])
    alone = reasoner.reads.compress(data.lm.read(ids, torch.ones_like(ids).bool()).states[0])
    np.testing.assert_allclose(store.of(5), alone.detach().numpy(), atol=1e-4)
    monkeypatch.setattr(FrozenLM, "read", None)
    job.compressed_states(params, run, data.lm, reasoner, encoded)
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_compressors_are_the_principal_components(data):
    encoded = encode(data.lm, data.parts["train"], 2)
    reasoner = job.make_reasoner(params_of(), data, encoded, "thoughts")
    rows = [
        data.lm.read(torch.tensor([one.prompt]), torch.ones(1, len(one.prompt)).bool()).states[0] for one in encoded
    ]
    states = torch.cat(rows).double()
    _, _, basis = torch.linalg.svd(states - states.mean(0), full_matrices=False)
    ours = reasoner.reads.encoder.detach().double()
    torch.testing.assert_close(ours.T @ ours, basis[:8].T @ basis[:8], atol=1e-4, rtol=0)
    said = {token for one in encoded for token in one.chain + one.answer}
    assert reasoner.ids.tolist() == sorted(said) and torch.equal(reasoner.words, data.lm.embeddings[reasoner.ids])


def test_baselines_are_not_computed_for_the_problem(data):
    """mean: one thought for all; shuffled: another's; ridge: linear in the prompt's last state."""
    encoded = encode(data.lm, data.parts["train"], 2)
    reasoner = job.make_reasoner(params_of(), data, encoded, "thoughts").eval()
    thinking = evaluate.Thinking(data.lm, reasoner, 4)
    some = data.parts["train"]
    known = thinking.latents(thinking.read(some))
    change = {name: way.keywords["change"] for name, way in evaluate.baselines(thinking, some, 8).items()}
    other = thinking.read(data.parts["test"][:5])
    assert (change["mean"](other, known[:5]) == change["mean"](other, known[:5])[:1]).all()
    torch.testing.assert_close(change["mean"](other, known[:5])[0], known.mean(0))
    torch.testing.assert_close(change["shuffled"](other, known[:5]), known[:5])

    def ridge(last):
        return change["ridge"](SimpleNamespace(last=last), known[: len(last)])

    last = thinking.read(some).last
    torch.testing.assert_close(ridge(last).mean(0), known.mean(0), atol=1e-3, rtol=1e-3)
    two = ridge(last[:1]) + ridge(last[1:2]) - ridge(last[2:3])
    torch.testing.assert_close(two, ridge(last[:1] + last[1:2] - last[2:3]), atol=1e-3, rtol=1e-3)


def test_rows_of_all_methods(data, tmp_path):
    found, _ = trained(tmp_path, data)
    params = params_of()
    methods = evaluate.methods(params, data, {"thoughts": found.model})
    rows = {row["way"]: row for row in evaluate.rows(params, data, methods, timed=("thoughts",))}
    assert set(rows) == {"no_thinking", "chain", "thoughts", "read_off", "mean", "ridge", "shuffled"}
    assert rows["chain"]["accuracy"] > 0.9 > rows["no_thinking"]["accuracy"] and rows["chain"]["tokens"] > 10
    assert rows["read_off"]["tokens"] == 0 and {"accuracy/2", "accuracy/3"} <= set(rows["mean"])
    assert rows["thoughts"]["ms/1"] > 0 and rows["thoughts"]["ms/64"] > 0 and "ms/1" not in rows["chain"]


def test_what_is_the_same_for_every_problem(data):
    encoded = encode(data.lm, data.parts["test"], 2)
    found = evaluate.constant_share(data, encoded, 16)
    assert found["</think>"] == found["answer's anchor"], "here the answer is read at </think>"
    assert all(0 < share < 1 for share in found["</think>"]) and len(found["</think>"]) == 4
    same = evaluate.constant_share(data, encoded[:1] * 3, 2)
    assert same["</think>"] == pytest.approx([1.0] * 4, abs=1e-5)


# --- GSM8K, with chains of the model's own ---------------------------------------------------------------------------


@pytest.fixture
def gsm8k(tmp_path):
    """Problems as GSM8K writes them, of stories that the model that ships can solve."""
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    for part, count in (("train", 30), ("test", 4)):
        some = [from_problem(p) for p in islice(problems("test", 1 if part == "train" else 2, 2, 3), count)]
        lines = [json.dumps({"question": one.question, "answer": f"<<1+1=2>> so\n#### {one.answer}"}) for one in some]
        (folder / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_chains_are_written_once_and_kept_where_they_are_right(tmp_path, gsm8k, monkeypatch):
    sizes = {"num_samples": 27, "valid_size": 3, "test_size": 64, "max_new_tokens": 40}
    params = params_of(tmp_path / "run", data_path=str(gsm8k), **sizes)
    run = Run(params, "07_latent_reasoning")
    found = job.load(params, run)
    assert {part: len(some) for part, some in found.parts.items() if part != "train"} == {"valid": 3, "test": 4}
    assert 20 <= len(found.parts["train"]) <= 27
    assert all("=" in one.chain and "</think>" not in one.chain for one in found.parts["train"])
    file = run.dir / "chains" / "chains.jsonl"
    kept = file.read_text(encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(evaluate.Thinking, "without", None)
        assert job.load(params, run).parts == found.parts, "read, not written again"
    assert job.train(params, run, found).metrics["train/steps"] == 4
    for broken in (kept[:-30], kept.replace('"most": 40', '"most": 41'), kept.replace('"right"', '"wrong"')):
        file.write_text(broken, encoding="utf-8")
        with pytest.raises(UserError, match="chains.jsonl is broken or holds chains of something else; remove it"):
            job.load(params, run)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"num_latents": 0}, "parameter 'num_latents' = 0"),
        ({"arm": "toughts"}, "no arm 'toughts'; there are thoughts, answer_alone"),
        ({"hidden_size": 20, "num_heads": 4}, "'hidden_size' = 20 must be a multiple of 2 \\* num_heads = 8"),
        ({"schedule": "adaptive"}, "'adaptive' is for chapters"),
        ({"schedule": "lienar"}, "did you mean 'linear'"),
        ({"chain_weight": 0, "answer_weight": 0, "distill_weight": 0}, "are all 0: nothing is learned"),
        ({"arm": "", "readout": "direct", "teach_answer": False}, "it requires teach_answer True"),
        ({"arm": "direct_alone", "chain_weight": 0.5}, "'chain_weight' = 0.5 contradicts arm 'direct_alone'"),
        ({"min_steps": 4}, "'min_steps' = 4 must not exceed max_problem_steps = 3"),
    ],
)
def test_parameters_that_cannot_be(values, message):
    with pytest.raises(ParameterError, match=message):
        params_of(**values)


def test_what_does_not_fit_together(data):
    with pytest.raises(UserError, match="d_compressed 500 is not between 1 and the size of the states, 192"):
        job.make_reasoner(params_of(d_compressed=500), data, encode(data.lm, data.parts["train"], 2), "thoughts")
    other = Data(FrozenLM(data.lm.lm, data.lm.tokenizer, 3), data.parts)
    that = "for the model and the stories that ship"
    faults = (
        (data, {"lm": "x"}, that),
        (data, {"data_path": "x"}, that),
        (other, {}, "for layer 2 and ending ';'; give"),
    )
    for given, changes, message in faults:
        with pytest.raises(UserError, match=message):
            evaluate.shipped(given, params_of(eval_checkpoint="shipped", **changes))
