"""Figures of the puzzles."""

from trm.puzzles import figures


def test_an_arm_has_one_colour_in_every_figure():
    few, many = figures.arm_colours(["none", "mine"]), figures.arm_colours(["linear", "none", "mine", "other"])
    assert few["none"] == many["none"] and few["mine"] == many["mine"]
    assert len({many[name] for name in ("linear", "none", "mine", "other")}) == 4
