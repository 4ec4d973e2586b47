"""The checks for a GPU, in their tiny form."""

import json
import math

import pytest

from tests.benchmarks import gpu


@pytest.mark.slow
def test_every_part_runs_in_the_tiny_form(tmp_path):
    found = gpu.main(["--tiny", "--out", str(tmp_path / "gpu.json")])
    parts = {part.__name__: found[part.__name__] for part in gpu.PARTS}
    assert not {name: part for name, part in parts.items() if "error" in part}
    assert all(row["loss"] < 1e-5 for row in parts["agreement"].values() if isinstance(row, dict))
    assert all(math.isfinite(parts["precisions"][name]["last_loss"]) for name in ("float32", "bfloat16"))
    assert parts["largest_batch"]["largest"] == 8 and len(parts["recipe"]["curve"]) == 2
    assert parts["throughput"]["bfloat16"]["examples_per_second"] > 0


def test_a_part_that_fails_is_recorded_and_the_next_begins(tmp_path, monkeypatch):
    def broken(bench):
        raise RuntimeError("out of luck")

    def well(bench):
        return {"value": math.inf}

    monkeypatch.setattr(gpu, "PARTS", (broken, well))
    out = tmp_path / "new" / "gpu.json"
    gpu.main(["--tiny", "--out", str(out)])
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["broken"]["error"] == "RuntimeError: out of luck" and kept["well"]["value"] is None
