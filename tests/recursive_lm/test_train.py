"""Chapter 06: arms at equal compute, disjoint parts, training that resumes, texts, scores against generated answers."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
from transformers import BertTokenizerFast

from trm.errors import UserError
from trm.language.lm import generate_greedy, load_lm
from trm.language.stories import encode, problems, read_answer
from trm.params import ParameterError
from trm.recursive_lm import train as job
from trm.recursive_lm.params import LM_ARMS, RecursiveLM
from trm.run import Run

TINY = dict(hidden_size=16, batch_size=8, max_steps=4, warmup_steps=1, eval_interval=2, checkpoint_interval=2, log_interval=1,
            valid_size=12, test_size=3, test_steps=7, more_cycles="1, 5", backend="cpu")  # fmt: skip


def params_of(folder="unused", **changes):
    return RecursiveLM.create(TINY | {"output_dir": str(folder)} | changes)


@pytest.fixture(scope="module")
def data():
    return job.load(params_of())


def test_arms_compute_equally_much(data):
    params = params_of(max_steps=300)
    spent = {arm: job.steps_of(params, data, arm) * job.step_flops(params.of_arm(arm), data) for arm in LM_ARMS}
    assert max(spent.values()) / min(spent.values()) < 1.01
    steps = {arm: job.steps_of(params, data, arm) for arm in LM_ARMS}
    assert steps["same_parameters"] > 4 * steps["recursive"] and steps["chain"] < steps["same_parameters"]
    assert steps["recursive"] == steps["looped"] == 300 <= steps["last_only"]


def test_arms_have_the_parameters_they_are_named_for(data):
    params = params_of(hidden_size=32)
    size = {arm: sum(p.numel() for p in job.make_model(params.of_arm(arm), data).parameters()) for arm in LM_ARMS}
    assert len({size[arm] for arm in ("recursive", "last_only", "looped", "same_parameters", "chain")}) == 1
    assert len(job.make_model(params.of_arm("same_compute"), data).blocks) == 3 * (1 + 1)
    block = sum(p.numel() for p in job.make_model(params, data).blocks.parameters())
    assert size["same_compute"] - size["recursive"] == 5 * block


def test_no_problem_is_in_two_parts(data):
    params = params_of(batch_size=64)
    batches = job.batches_of(params, data)
    seen = {tuple(row[row != data.pad]) for step in range(20) for row in batches(step)["input_ids"]}
    kept = [p for some in (data.valid, *data.test.values()) for p in some]
    known = {(p.start, p.steps) for p in kept}
    drawn = {(p.start, p.steps) for p in islice(problems("train", 3, 2, 6), 3000)}
    assert not known & drawn
    assert not seen & {tuple(a + b) for a, b in encode(data.tokenizer, kept, [False] * len(kept))}
    assert {len(p.steps) for p in data.valid} <= set(range(2, 7)) and list(data.test) == [2, 3, 4, 5, 6, 7]
    assert job.load(params_of(seed=5)).test == data.test, "every seed is tested on the same problems"
    assert not np.array_equal(batches(0)["input_ids"], batches(1)["input_ids"])
    again = job.batches_of(params, data)(7)
    assert all(np.array_equal(value, again[name]) for name, value in batches(7).items()), "a pure function of the step"


def test_what_is_learned_is_the_answer_alone(data):
    for chain in (False, True):
        batch = job.batches_of(params_of(chain=chain), data)(0)
        for ids, weights in zip(batch["input_ids"], batch["weights"]):
            said = data.tokenizer.decode(ids[weights == 1])
            assert said.endswith("<eos>") and ("</think>" in said) == chain and read_answer(said) is not None
            given = data.tokenizer.decode(ids[(weights == 0) & (ids != data.pad)])
            assert given.endswith("<think>" if chain else "</think>")


def test_an_arm_is_trained_evaluated_and_not_repeated(data, tmp_path):
    params = params_of(tmp_path)
    result = job.train_arm(params, data, Run(params, "06_recursive_lm"), "recursive")
    row = result.metrics
    assert {f"accuracy/{n}" for n in range(2, 8)} | {f"cycles_{H}/7" for H in (1, 5)} | {"loss/1", "loss/3"} <= set(row)
    assert [point["step"] for point in result.curve(step="step", loss="valid/loss")] == [2, 4]
    assert row["flops/training"] == 4 * job.step_flops(params, data)
    again = params_of(tmp_path, resume=True)
    second = job.train_arm(again, data, Run(again, "06_recursive_lm"), "recursive")
    assert second.metrics == result.metrics
    assert all(torch.equal(a, b) for a, b in zip(result.model.parameters(), second.model.parameters()))


@pytest.mark.slow
def test_a_training_that_was_cut_ends_with_the_same_numbers(data, tmp_path):
    """With the curriculum, whose step must survive the cut."""
    options = {"curriculum_enabled": True, "curriculum_start_step": 1, "curriculum_end_step": 4, "max_steps": 4}
    whole = params_of(tmp_path / "whole", **options)
    expected = job.train_arm(whole, data, Run(whole, "06_recursive_lm"), "")
    cut = params_of(tmp_path / "cut", **options, time_limit=1e-6, log_interval=2)
    assert job.train_arm(cut, data, Run(cut, "06_recursive_lm"), "") is None
    rest = params_of(tmp_path / "cut", **options, resume=True, log_interval=2)
    found = job.train_arm(rest, data, Run(rest, "06_recursive_lm"), "")
    for a, b in zip(expected.model.parameters(), found.model.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("arm", ["recursive", pytest.param("chain", marks=pytest.mark.slow)])
def test_answers_scored_exact_are_the_answers_written(data, arm):
    """A model that was trained a little on three problems: reading in one pass and writing token by token agree."""
    params = params_of(num_heads=2, hidden_size=32).of_arm(arm)
    model, some = job.make_model(params, data), data.test[2]
    rows = encode(data.tokenizer, some, [params.chain] * len(some))
    batch = {k: torch.from_numpy(v) for k, v in job.to_learn(rows[:2], data.pad, 0.0).items()}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch).loss.backward()
        optimizer.step()
    written = generate_greedy(model, data.tokenizer, some, params.chain)
    found = job.score(model, rows, data.pad).exact
    assert found[:2].all() and [a == p.answer for a, p in zip(written.answers, some)][:2] == [True, True]
    if not params.chain:
        assert [a == p.answer for a, p in zip(written.answers, some)] == found.tolist()


def test_ordinary_text_is_learned_too(tmp_path):
    path = tmp_path / "some.txt"
    lines = [f"The {w} dog and the {w} cat sit on mat number {i}." for i, w in enumerate("abcdefghij" * 4)]
    path.write_text("\n\n".join(lines), encoding="utf-8")
    params = params_of(tmp_path / "run", data="text", text_path=str(path), num_samples=20, max_seq_length=24)
    data = job.load(params)
    result = job.train_arm(params, data, Run(params, "06_recursive_lm"), "")
    assert result.metrics["test/loss"] == result.metrics["loss/3"] > 0 <= result.metrics["test/token_accuracy"] <= 1
    generated = job.load(params_of(data="text", num_samples=5, valid_size=2, test_size=2))
    assert len(generated.texts["train"]) == 5
    batch = job.batches_of(params, data)(0)
    assert batch["weights"][0, 0] == 0 and (batch["weights"][0, 1:5] == 1).all()


def test_text_from_a_book(real_data):
    source = str(real_data / "text" / "gutenberg17.txt.xz")
    data = job.load(params_of(data="text", text_path=source, num_samples=30, max_seq_length=32))
    assert len(data.texts["train"]) == 30 and max(map(len, data.texts["train"])) <= 32


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"arm": "", "body": "plain"}, "requires schedule 'none'"),
        ({"body": "plain", "schedule": "none"}, "contradicts arm 'recursive'"),
        (
            {"arm": "", "random_cycles": True, "body": "plain", "schedule": "none"},
            "it requires schedule 'none', no random_cycles",
        ),
        ({"random_cycles": True, "schedule": "0.2, 0.5, 1"}, "give a schedule by its name"),
        ({"arm": "", "body": "looped", "backprop": "last"}, "a loop requires 'full'"),
        ({"hidden_size": 20, "num_heads": 4}, "multiple of 2 \\* num_heads"),
        ({"max_problem_steps": 8}, "must not fall"),
        ({"arm": "recursiv"}, "no arm 'recursiv'"),
        ({"more_cycles": "0, 2"}, "whole numbers from 1"),
        ({"schedule": "linaer"}, "did you mean 'linear'"),
        ({"data": "text", "baseline_arm": "chain"}, "text has no chain"),
    ],
)
def test_bad_parameters_are_named(changes, said):
    with pytest.raises(ParameterError, match=said):
        params_of(**changes)


def test_a_model_that_cannot_be_had_is_named():
    with pytest.raises(UserError, match="no-such-folder: no such folder"):
        job.load(params_of(embeddings="./no-such-folder"))


@pytest.mark.parametrize("changes", [{"arm": "chain"}, {"baseline_arm": "chain"}, {"arm": "", "chain": True}], ids=str)
def test_a_model_that_cannot_write_a_chain_is_named(monkeypatch, changes):
    """Baseline arms too."""
    lm, _ = load_lm()
    other = BertTokenizerFast(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5})
    monkeypatch.setattr(job, "load_lm", lambda name: (lm, other))
    with pytest.raises(UserError, match="other has no token <think>, which a chain begins with"):
        job.load(params_of(embeddings="other", **changes))


def test_the_parameters_go_into_the_configuration(data, tmp_path):
    changes = {"H_cycles": 2, "L_cycles": 2, "schedule": "decay", "expansion": 3.0}
    params = params_of(tmp_path, **changes)
    assert changes.items() <= job.config_of(params, data).model_dump().items()
    job.make_model(params, data).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["vocab_size"] == len(data.embeddings)
    learned = params_of(embeddings="")
    assert job.config_of(learned, job.load(learned)).embed_size == 0
