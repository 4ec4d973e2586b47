"""Chapter 00: what is shown of each step, the animation, the grid to type into."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import ROOT
from trm.errors import UserError
from trm.puzzles import watch
from trm.puzzles.solve import shipped_model, solve
from trm.puzzles.sudoku import digits, tokens
from trm.puzzles.text import parse_question

SIX = parse_question(".35..12...3..24.6.....4........61...", "x")


@pytest.fixture(scope="module")
def seen():
    return watch.watch(shipped_model("6x6")[0], SIX, 5)


def test_the_steps_are_those_of_solve(seen):
    model = shipped_model("6x6")[0]
    inputs = torch.from_numpy(tokens(np.array([SIX.digits])))
    thoughts = solve(model, inputs, 5)
    assert (seen.digits == digits(thoughts.predictions[0].numpy())).all()
    assert seen.entropy == pytest.approx(thoughts.signals["entropy"][0].numpy(), rel=1e-4)
    assert seen.halting == pytest.approx(thoughts.signals["q_halt"][0].sigmoid().numpy(), rel=1e-4)
    assert seen.probability.shape == (5, 36) and (seen.probability > 1 / 8).all()
    at = seen.solved_at
    assert at == 2 and not seen.is_valid[0] and seen.is_valid[1]
    assert "".join(map(str, seen.digits[-1])) == "435621216435124563653142542316361254"


def test_where_rules_stop(seen):
    high = watch.stops(seen, 1e9)
    assert high["entropy below 1e+09"] == 1 and watch.stops(seen, 0.0)["entropy below 0"] == 0
    first = int(np.argmax(seen.halting > 0.5)) + 1 if (seen.halting > 0.5).any() else 0
    assert high["halting head above 1/2"] == first


def test_the_animation_ends_one_step_after_the_right_answer(seen):
    moving = Image.open(io.BytesIO(watch.animation(seen)))
    assert moving.n_frames == seen.solved_at + 2 and len(watch.animation(seen)) < 200_000  # with the puzzle first
    moving.seek(moving.n_frames - 1)
    assert moving.info["duration"] == 2800


def pressed(box, text):
    """What the grid says of a pasted puzzle."""
    _, grid, paste, think, words, player, picture = box.children
    paste.value = text
    think.click()
    return grid, words.value, player.children[1].value, picture


def test_the_grid_takes_pastes_and_says_what_is_wrong():
    box = watch.puzzle_box(4)
    grid, words, step, picture = pressed(box, str(SIX))
    assert words == "right after step 2" and step == 2 and "obeys the rules" in picture.value
    assert [child.value for child in grid.children[:6]] == ["", "3", "5", "", "", "1"]
    assert "several solutions" in pressed(box, "1" + "." * 35)[1]
    assert "stands twice in row 1" in pressed(box, "11" + "." * 34)[1]
    box.children[2].value = "123"
    assert box.children[4].value.startswith("the text: 3 characters")
    box.children[2].value = "." * 16
    assert "no model ships for 4x4" in box.children[4].value
    assert len(pressed(box, "." * 81)[0].children) == 81
    grid.children[0].value = "12"
    box.children[3].click()
    assert "a cell holds '12'" in box.children[4].value
    grid.children[0].value = "x"
    box.children[3].click()
    assert "'x' at position 1" in box.children[4].value


def test_a_model_for_another_size_is_refused():
    with pytest.raises(UserError, match="is for 81 cells and 11 tokens, and puzzles of 6x6 have 36"):
        watch.model_for(SIX, "trm/pretrained/sudoku_9x9")


@pytest.mark.slow
@pytest.mark.parametrize(
    "question, said", [("1" + "." * 35, "several solutions: two of them"), ("11" + "." * 34, "stands twice")]
)
def test_a_puzzle_without_one_solution_is_told_so(tmp_path, question, said):
    script = [sys.executable, str(ROOT / "book" / "00_watch_it_think.py"), "-p", "question", question]
    done = subprocess.run([*script, "-p", "output_dir", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0 and said in done.stdout and "was not given to the model" in done.stdout
