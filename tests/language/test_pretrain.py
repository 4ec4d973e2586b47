"""The language model that ships: what its card says is so, and the command that makes one works."""

import json
from itertools import islice

import pytest
import torch

from trm.grpo.train import EARLY_LM
from trm.language.lm import SHIPPED_LM, generate_greedy, load_lm
from trm.language.pretrain import ReasoningLM, train
from trm.language.stories import make_tokenizer, problems
from trm.params import from_command_line


def test_the_shipped_model_needs_to_think():
    lm, tokenizer = load_lm()
    assert 1_000_000 < lm.num_parameters() < 3_000_000 and lm.dtype == torch.float32
    asked = list(islice(problems("test", seed=7), 150))  # not those of the card
    assert generate_greedy(lm, tokenizer, asked, thinking=True).accuracy(asked) >= 0.9
    assert generate_greedy(lm, tokenizer, asked, thinking=False).accuracy(asked) <= 0.5
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()


def test_the_card_says_what_was_measured():
    facts = json.loads((SHIPPED_LM / "training.json").read_text())
    said = (SHIPPED_LM / "README.md").read_text()
    metrics = facts["metrics"]
    for steps in ("", "/2", "/3", "/4", "/5", "/6"):
        row = [metrics[f"test/thinking{steps}"], metrics[f"test/no_thinking{steps}"]]
        assert f"| {steps.strip('/') or 'all'} | {row[0]:.1%} | {row[1]:.1%} |" in said
    assert facts["params"] == ReasoningLM().result_values()  # so that the plain command makes it again
    assert "    python -m trm.language.pretrain\n" in said
    assert sum(path.stat().st_size for path in SHIPPED_LM.iterdir()) < 4_000_000


@pytest.mark.slow
def test_the_one_that_was_stopped_early():
    """Right about half of the time with its chain; its card names the command of these very parameters."""
    lm, tokenizer = load_lm(str(EARLY_LM))
    assert lm.num_parameters() < 1_000_000 and tokenizer.get_vocab() == make_tokenizer().get_vocab()
    asked = list(islice(problems("test", seed=7), 300))  # not those of the card
    assert 0.4 <= generate_greedy(lm, tokenizer, asked, thinking=True).accuracy(asked) <= 0.65
    facts, said = json.loads((EARLY_LM / "training.json").read_text()), (EARLY_LM / "README.md").read_text()
    assert 0.4 <= facts["metrics"]["test/thinking"] <= 0.6
    assert f"| all | {facts['metrics']['test/thinking']:.1%} |" in said
    command = next(line for line in said.splitlines() if line.startswith("    python -m trm.language.pretrain "))
    given = from_command_line(command.split()[3:])
    assert ReasoningLM.create(given).result_values() == facts["params"]
    assert sum(path.stat().st_size for path in EARLY_LM.iterdir()) < 2_000_000


def test_a_model_is_made_tested_and_described(tmp_path):
    small = {"hidden_size": 32, "num_layers": 1, "batch_size": 8, "max_steps": 6, "eval_interval": 2, "log_interval": 2}
    small |= {"valid_size": 4, "test_size": 8, "early_stopping_patience": 0, "output_dir": str(tmp_path)}
    run = train(ReasoningLM.create(small))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["train/steps"] == 6 and metrics["model/step"] == 2  # nothing was learned: the first is the best
    assert 0 <= metrics["test/thinking"] <= 1
    said = (tmp_path / "model" / "README.md").read_text()
    assert "-p hidden_size 32" in said and "-p max_steps 6" in said
    lm, tokenizer = load_lm(str(run.dir / "model"))
    asked = list(islice(problems("test", 0), 3))
    assert len(generate_greedy(lm, tokenizer, asked, thinking=False).texts) == 3
