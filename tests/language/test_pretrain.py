"""The language models that ship: what their cards say is so, and the command that makes one works."""

import json
from itertools import islice

import pytest
import torch

from trm.grpo.train import EARLY_LM
from trm.language.lm import SHIPPED_LM, generate_greedy, load_lm
from trm.language.pretrain import ReasoningLM, train
from trm.language.stories import make_tokenizer, problems
from trm.params import from_command_line


@pytest.mark.parametrize(
    "folder, low, high, sizes",
    [(SHIPPED_LM, 0.9, 1.0, (1e6, 3e6)), pytest.param(EARLY_LM, 0.4, 0.65, (0, 1e6), marks=pytest.mark.slow)],
)
def test_the_models_that_ship_need_to_think(folder, low, high, sizes):
    lm, tokenizer = load_lm(str(folder))
    assert sizes[0] < lm.num_parameters() < sizes[1] and lm.dtype == torch.float32
    asked = list(islice(problems("test", seed=7), 150))  # not those of the card
    assert low <= generate_greedy(lm, tokenizer, asked, thinking=True).accuracy(asked) <= high
    assert generate_greedy(lm, tokenizer, asked, thinking=False).accuracy(asked) <= 0.5
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()


@pytest.mark.parametrize("folder", [SHIPPED_LM, EARLY_LM])
def test_the_card_says_what_was_measured(folder):
    facts, said = (
        json.loads((folder / "training.json").read_text(encoding="utf-8")),
        (folder / "README.md").read_text(encoding="utf-8"),
    )
    for steps in ("", "/2", "/3", "/4", "/5", "/6"):
        row = [facts["metrics"][f"test/{name}{steps}"] for name in ("thinking", "no_thinking")]
        assert f"| {steps.strip('/') or 'all'} | {row[0]:.1%} | {row[1]:.1%} |" in said
    command = next(line for line in said.splitlines() if line.startswith("    python -m trm.language.pretrain"))
    assert ReasoningLM.create(from_command_line(command.split()[3:])).result_values() == facts["params"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4_000_000


def test_a_model_is_made_and_tested(tmp_path):
    small = {"hidden_size": 32, "num_layers": 1, "batch_size": 8, "max_steps": 6, "eval_interval": 2, "log_interval": 2}
    small |= {"valid_size": 4, "test_size": 8, "early_stopping_patience": 0, "output_dir": str(tmp_path)}
    train(ReasoningLM.create(small))
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["train/steps"] == 6 and metrics["model/step"] == 2  # nothing was learned: the first is the best
    assert 0 <= metrics["test/thinking"] <= 1
    facts = json.loads((tmp_path / "model" / "training.json").read_text(encoding="utf-8"))
    assert facts["params"]["hidden_size"] == 32 and facts["metrics"]["test/thinking"] == metrics["test/thinking"]
