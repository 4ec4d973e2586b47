"""Keys and values that are kept: attention position by position against attention at once."""

import pytest
import torch

from trm.layers import Block, KeyValueCache


@pytest.mark.parametrize("pads", [0, 3])
def test_a_block_applied_twice_sees_the_same_piece_by_piece(pads):
    torch.manual_seed(0)
    block, x = Block(16, 12, "attention", num_heads=2, inner_multiple=8, causal=True), torch.randn(2, 10, 16)
    seen = torch.ones(2, 10, dtype=torch.bool)
    seen[1, :pads] = False
    whole = KeyValueCache()
    whole.begin(seen)
    wanted = block(block(x, whole), whole)
    cache, found = KeyValueCache(), []
    for first, end in ((0, 4), (4, 5), (5, 10)):
        cache.begin(seen[:, :end], first)
        found.append(block(block(x[:, first:end], cache), cache))
    assert torch.allclose(torch.cat(found, 1), wanted, atol=1e-6)
    assert len(cache.kept) == 2 and cache.kept[0][0].shape == (2, 2, 10, 8), "a pair for each application"
    alone = block(block(x[1:, pads:]))  # rotary positions are relative: a row is what it is without its padding
    assert torch.allclose(wanted[1:, pads:], alone, atol=1e-5) and not wanted.isnan().any()


def test_a_block_that_is_causal_looks_back_alone():
    torch.manual_seed(0)
    x = torch.randn(1, 6, 16)
    other = x.clone()
    other[:, 4] += 1
    for causal in (True, False):
        block = Block(16, 6, "attention", num_heads=2, inner_multiple=8, causal=causal)
        assert torch.allclose(block(x)[:, :4], block(other)[:, :4], atol=1e-6) == causal
