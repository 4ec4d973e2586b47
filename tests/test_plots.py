"""A figure with sliders draws anew when one moves."""

import matplotlib.pyplot as plt

from trm.plots import explore


def test_a_slider_redraws_the_figure():
    seen, open_before = [], plt.get_fignums()

    def draw(a, b):
        seen.append((a, b))
        figure, ax = plt.subplots(figsize=(1, 1))
        ax.plot([0, a], [0, b])
        return figure

    box = explore(draw, a=(0, 9, 3), b=(1, 2, 1))
    first, second, picture = box.children
    before = bytes(picture.value)
    assert seen == [(3, 1)] and before.startswith(b"\x89PNG") and (first.min, first.max) == (0, 9)
    second.value = 2
    assert seen == [(3, 1), (3, 2)] and bytes(picture.value) != before
    assert plt.get_fignums() == open_before
