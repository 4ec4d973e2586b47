"""What the report measures from chapter 01's table."""

import pytest

from tests.compressor.test_figures import rows
from trm.report.measures import compression
from trm.report.verdicts import CONTRADICTED, NOT_SUPPORTED, OTHER_SCALE, SUPPORTED, NotThere


def held(tmp_path, measure, table, **options):
    table.to_csv(tmp_path / "01_compressor.csv", index=False)
    return measure(tmp_path, **options)


def test_measurements(tmp_path):
    better = held(tmp_path, compression.thinking_stage_gains, rows(before=1.5))
    assert better.verdict == SUPPORTED and better.seeds == 3 and "0.67 times" in better.text
    assert held(tmp_path, compression.thinking_stage_gains, rows(before=0.5)).verdict == CONTRADICTED
    assert held(tmp_path, compression.depends_on_text, rows()).verdict == SUPPORTED
    assert held(tmp_path, compression.depends_on_text, rows(off=0.9)).verdict == CONTRADICTED
    assert held(tmp_path, compression.best_size, rows()).verdict == NOT_SUPPORTED
    cosine = held(tmp_path, compression.cosine_at, rows(), ratio=48, claimed=0.85)
    assert cosine.verdict == OTHER_SCALE and "at 48x (K = 4) 0.800, of which the mean alone has 0.300" in cosine.text
    assert held(tmp_path, compression.cosine_at, rows(), ratio=24, claimed=0.8).verdict == SUPPORTED
    with pytest.raises(NotThere, match="no runs at 6x"):
        held(tmp_path, compression.cosine_at, rows(), ratio=6, claimed=0.98)
    told = held(tmp_path, compression.cosine_tells, rows())
    assert told.verdict == "in part" and "of 12 pairs" in told.text  # four arms, of which task_aware is the odd one
    with pytest.raises(NotThere, match="no runs of untied"):
        held(tmp_path, compression.tied_is_stable, rows()[lambda t: t["arm"] != "untied"])
    noisy = rows()
    noisy.loc[noisy["arm"] == "untied", "mse"] *= 1 + 0.01 * noisy["seed"]
    assert held(tmp_path, compression.tied_is_stable, noisy).verdict == SUPPORTED
