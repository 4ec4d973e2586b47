"""Arms at equal compute, each in a folder of its own."""

import pytest

from trm import arms
from trm.arms import ArmResult, scaled, train_arm
from trm.errors import Interrupted
from trm.run import Run
from trm.training_params import Training


class FakeTrainer:
    """Counts how often it trains; may be paused by the time limit."""

    trained = 0

    def __init__(self, params, run, paused):
        self.run, self.params, self.paused, self.step = run, params, paused, 2
        self.accelerator = self

    def wait_for_everyone(self):
        """Nothing: one process."""

    def fit(self):
        FakeTrainer.trained += 1
        self.run.log({"step": 1, "train/seconds": 60.0, "valid/uas": 0.5})
        self.run.log({"step": 2, "train/seconds": 90.0})
        return {"train/steps": 2}


def test_steps_are_scaled_to_equal_compute():
    params = Training(max_steps=100, eval_interval=10, warmup_steps=0)
    half = scaled(params, 0.5, ("max_steps", "eval_interval", "warmup_steps"))
    assert (half.max_steps, half.eval_interval, half.warmup_steps) == (50, 5, 0)
    assert scaled(params, 0.001, ("max_steps",)).max_steps == 1


@pytest.mark.parametrize("paused", [False, True])
def test_an_arm_is_trained_once_and_read_afterwards(tmp_path, paused):
    FakeTrainer.trained = 0
    params = Training(output_dir=str(tmp_path), resume=True, time_limit=5)
    run = Run(params, "test")

    def train():
        after = lambda trainer: {"model/parameters": 7}  # noqa: E731
        return train_arm(run, "linear/last", params, lambda own, part: FakeTrainer(own, part, paused), after)

    result = train()
    if paused:
        assert result is None and not (tmp_path / "arms/linear-last/metrics.json").exists()
        return
    assert isinstance(result, ArmResult) and result.folder == tmp_path / "arms/linear-last"
    assert result.metrics == {"train/steps": 2, "model/parameters": 7} and result.seed == 0
    assert 0 < result.params.time_limit <= 5
    assert result.curve(step="step", uas="valid/uas") == [{"step": 1, "uas": 0.5}]
    again = train()
    assert FakeTrainer.trained == 1 and again.metrics == result.metrics and again.history == result.history


def test_an_arm_shows_itself_before_its_trainer_is_made(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(arms.Progress, "start", lambda show: order.append("shown"))

    def make(own, part):
        order.append("made")
        return FakeTrainer(own, part, paused=False)

    train_arm(Run(Training(output_dir=str(tmp_path)), "test"), "one", Training(), make)
    assert order == ["shown", "made"]


def test_an_interrupt_before_the_first_step_says_how_to_go_on(tmp_path):
    def make(own, part):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="before the first step") as said:
        train_arm(Run(Training(output_dir=str(tmp_path)), "test"), "one", Training(), make)
    assert str(said.value).count("\n") == 1 and "checkpoint" not in str(said.value)


def test_an_interrupt_after_the_training_says_how_to_go_on(tmp_path):
    def after(trainer):
        raise KeyboardInterrupt

    params = Training(output_dir=str(tmp_path), max_steps=2)
    with pytest.raises(Interrupted, match="interrupted at step 2 of 2") as said:
        train_arm(Run(params, "test"), "one", params, lambda own, part: FakeTrainer(own, part, False), after)
    assert str(said.value).count("\n") == 2 and "resume True" in str(said.value)
    assert (tmp_path / "metrics.partial.json").exists() and not (tmp_path / "arms" / "one" / "metrics.json").exists()
