"""Keys and values of finished positions, for writing token by token with a network that is applied again and again.

In a causal recursion of fixed depth, position t of the n-th application looks at positions up to t of the *same*
application, and none of these changes when later tokens come. So each application has keys and values of its own, kept in
the order of use. It would not hold if positions stopped thinking at depths of their own without computing the rest (later
positions would miss their keys), if the depth changed between two tokens, or if the question were read in both directions.
"""

import torch
from torch import Tensor


class KeyValueCache:
    """One pair (keys, values), (B, N, K, head_dim) each, for every time that an attention layer is applied.

    `begin` comes before each forward pass; the layers then call `extend` in the order in which they are applied.
    """

    def __init__(self):
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.past = self.turn = 0

    def begin(self, attention: Tensor, past: int = 0) -> None:
        """Before a forward pass on positions `past` to K. attention (B, K) bool: which positions are no padding."""
        K = attention.shape[1]
        self.past, self.turn = past, 0
        own = torch.eye(K, dtype=torch.bool, device=attention.device)  # padding sees itself: a softmax wants something
        self.allowed = ((attention[:, None] | own) & torch.ones_like(own).tril())[:, None, past:]  # (B, 1, K - past, K)

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values of the new positions to those that this application has; returns all of them."""
        if self.past:
            k, v = (torch.cat(pair, dim=2) for pair in zip(self.kept[self.turn], (k, v)))
            self.kept[self.turn] = k, v
        else:
            self.kept.append((k, v))
        self.turn += 1
        return k, v


class FixedContext:
    """What positions look at besides each other, the same each time: the keys and values of a question that is read once.

    Takes the place of a `KeyValueCache` where a network is applied again and again to a few positions, while what they
    read never changes. The few stand before the question, so that its n-th token is equally far from them in every row.

    Args:
        attentions: the network's attention layers, in the order in which they are applied.
        x: (B, T, D), the question as every layer reads it. mask: (B, T) bool, where it is no padding. positions: how many
            look at it.
    """

    past = 0

    def __init__(self, attentions, x: Tensor, mask: Tensor, positions: int):
        self.kept = [attention.keys_values(x, positions) for attention in attentions]
        own = torch.ones_like(mask[:, :1]).expand(-1, positions)
        self.allowed = torch.cat((own, mask), 1)[:, None, None]  # (B, 1, 1, positions + T)
        self.turn = 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, N, positions, head_dim) of the positions, and the question's after them."""
        fixed_k, fixed_v = self.kept[self.turn % len(self.kept)]
        self.turn += 1
        return torch.cat((k, fixed_k), 2), torch.cat((v, fixed_v), 2)
