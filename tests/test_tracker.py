"""What reaches a tracker: records, final metrics, figures; TensorBoard itself, and a tracker in the place of W&B's."""

import accelerate.tracking
import matplotlib.pyplot as plt
import pytest
from accelerate.state import AcceleratorState, PartialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trm.arms import train_arm
from trm.run import Run
from trm.training_params import Training


@pytest.fixture
def sent(monkeypatch):
    """What W&B's stand-in was sent, in order."""
    calls = []
    AcceleratorState._reset_state(reset_partial_state=True)

    class Wandb:
        requires_logging_directory = False
        tracker = property(lambda self: self)

        def __init__(self, project, name, dir):
            self.name = name
            assert PartialState._shared_state, "accelerate's trackers refuse to start without it"

        def __getattr__(self, what):
            return lambda *given, **named: calls.append((self.name, what, *given, named))

    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", Wandb)
    available = [type("Kind", (), {"value": "wandb"})]
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: available)
    return calls


def record(run, paused=False):
    run.log({"step": 20, "train/total_loss": 2.0})
    figure, ax = plt.subplots(figsize=(2, 1))
    run.save_figure(figure, "curve")
    plt.close(figure)
    run.finish({"test/exact_accuracy": 0.5, "flops/training": 1e9, "model/parameters": 7}, complete=not paused)


def test_tensorboard_gets_records_metrics_and_figures(tmp_path):
    record(Run(Training.create({"output_dir": str(tmp_path), "log_with": "tensorboard"}), "04_trm_train"))
    readers = [EventAccumulator(str(path)).Reload() for path in tmp_path.rglob("events.out*")]
    (reader,) = [one for one in readers if "train/total_loss" in one.Tags()["scalars"]]
    for name, value in (("train/total_loss", 2.0), ("test/exact_accuracy", 0.5), ("model/parameters", 7)):
        assert [(one.step, one.value) for one in reader.Scalars(name)] == [(20, value)]
    assert reader.Tags()["images"] == ["figures/curve"]


@pytest.mark.parametrize("paused", [False, True])
def test_wandb_gets_the_metrics_last_and_the_best_model(tmp_path, sent, paused):
    run = Run(Training.create({"output_dir": str(tmp_path), "log_with": "wandb", "wandb_run_name": "x"}), "c")
    run.path("best/model.safetensors").touch()
    record(run, paused)
    expected = ["start", "store_init_configuration", "log", "log", "log_images", "log_artifact", "finish"]
    assert [what for _, what, *_ in sent] == [name for name in expected if not (paused and name == "log_artifact")]
    assert sent[1][2]["run_id"] == run.id and sent[1][2]["seed"] == 0
    assert sent[3][2]["test/exact_accuracy"] == 0.5 and sent[3][3] == {"step": 20}
    assert list(sent[4][2]) == ["figures/curve"] and sent[4][2]["figures/curve"].shape[::3] == (1, 3)


@pytest.mark.parametrize("paused", [False, True])
def test_every_arm_has_a_tracker_of_its_own_which_is_closed_before_the_next(tmp_path, sent, paused):
    params = Training.create({"output_dir": str(tmp_path), "log_with": "wandb"})
    run = Run(params, "c")

    class Trainer:
        accelerator = type("Accelerator", (), {"wait_for_everyone": lambda self: None})()

        def __init__(self, params, own):
            self.params, self.run, self.paused, self.step = params, own, paused, 1

        def fit(self):
            self.run.log({"step": 1, "train/seconds": 1.0})
            return {"train/steps": 1}

    for seed in (1, 2):
        train_arm(run, f"a-{seed}", params.model_copy(update={"seed": seed}), Trainer)
    run.finish({"test/uas": 1.0})
    starts = [(name, what) for name, what, *_ in sent if what in ("start", "finish")]
    names = list(dict.fromkeys(name for name, _ in starts))
    assert len(names) == 3 and starts == [(name, what) for name in names for what in ("start", "finish")]
    assert sent[-2][2] == {"test/uas": 1.0}


def test_a_run_without_a_tracker_sends_nothing(tmp_path, sent):
    record(Run(Training.create({"output_dir": str(tmp_path)}), "c"))
    assert not sent
