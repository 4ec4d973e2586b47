"""The parts of one TRM block: RMSNorm, SwiGLU, attention with rotary positions, and the block itself.

What is different from a textbook transformer: the norm comes *after* the residual sum and has no gain,
no layer has a bias, and attention can be replaced by a SwiGLU over the positions (`mixer="mlp"`).
Source: arXiv 2510.04871, section 4, and the class it describes in SamsungSAILMontreal/TinyRecursiveModels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def truncated_normal_(tensor: Tensor, std: float) -> Tensor:
    """Fill `tensor` from a normal cut at two deviations and rescaled so that its deviation really is `std`.

    `nn.init.trunc_normal_` does not rescale: it gives 0.88 of the deviation asked for.
    """
    with torch.no_grad():
        # Variance of a standard normal cut at +-2: 1 - 2*2*pdf(2) / (cdf(2) - cdf(-2)).
        mass = math.erf(2 / math.sqrt(2))
        variance = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / mass
        wide = std / math.sqrt(variance)
        return nn.init.trunc_normal_(tensor, std=wide, a=-2 * wide, b=2 * wide)


class Linear(nn.Module):
    """`x @ weight.T`, weights drawn with deviation 1/sqrt(fan in) (LeCun). (..., in_features) -> (..., out_features)."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(truncated_normal_(torch.empty(out_features, in_features), in_features**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class _ResidualNorm(torch.autograd.Function):
    """rms_norm(x + y) with its gradient in closed form, in half the time and memory that autograd's own needs.

    With z = x + y, r = 1 / sqrt(mean(z^2) + eps) and n = r z:  dL/dz = r (g - n mean(g n)).
    """

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, eps: float) -> Tensor:
        z = x + y
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        r = torch.rsqrt(z.square().mean(-1, keepdim=True) + eps)
        n = (z * r).to(x.dtype)
        ctx.save_for_backward(n, r)
        return n

    @staticmethod
    def backward(ctx, g: Tensor):
        n, r = ctx.saved_tensors
        dz = (torch.addcmul(g, n, (g * n).mean(-1, keepdim=True), value=-1) * r).to(g.dtype)
        return dz, dz, None


def residual_norm(x: Tensor, y: Tensor, eps: float = 1e-5) -> Tensor:
    """RMSNorm without gain of a residual sum, (x + y) / sqrt(mean((x + y)^2) + eps), over the last axis; float32 at least."""
    return _ResidualNorm.apply(x, y, eps)


def inner_width(width: int, expansion: float, multiple: int) -> int:
    """Inner width of a SwiGLU: 2/3 of `expansion * width`, rounded up to a multiple of `multiple` (256 in the paper)."""
    return -(-round(expansion * width * 2 / 3) // multiple) * multiple


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), arXiv 2002.05202. (..., width) -> (..., width)."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_up_proj = Linear(width, 2 * inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)  # (..., inner) each
        return self.down_proj(F.silu(gate) * up)


def rotary_table(
    positions: int, head_dim: int, theta: float = 10000.0, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary position embedding (arXiv 2104.09864), each (positions, head_dim)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32, device=device), frequencies).repeat(
        1, 2
    )  # (T, head_dim)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to x (B, N, T, head_dim); the two halves of a head are the two coordinates."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


# --- keys and values of finished positions --------------------------------------------------------------------------
#
# In a causal recursion of fixed depth, position t of the n-th application looks at positions up to t of the *same*
# application, and none of these changes when later tokens come. So each application has keys and values of its own, kept in
# the order of use. It would not hold if positions halted at depths of their own without computing the rest (later positions
# would miss their keys), if the depth changed between two tokens, or if the question were read in both directions.


class KeyValueCache:
    """One pair (keys, values), (B, N, K, head_dim) each, for every time that an attention layer is applied.

    `begin` comes before each forward pass; the layers then call `extend` in the order in which they are applied.
    """

    def __init__(self):
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.past = self.turn = 0

    def begin(self, attention: Tensor, past: int = 0) -> None:
        """Before a forward pass on positions `past` to K. attention (B, K) bool: which positions are not padding."""
        K = attention.shape[1]
        self.past, self.turn = past, 0
        own = torch.eye(K, dtype=torch.bool, device=attention.device)  # padding sees itself: a softmax needs something
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
    """Keys and values of a question that is read once, in place of a `KeyValueCache`, for a network that is applied again
    and again to a few `positions`. They stand before the question, so that its n-th token is as far from them in every row.

    attentions: the attention layers, in the order of use. x (B, T, D): the question as every layer reads it. mask (B, T) bool.
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


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions, no bias. (B, T, D) -> (B, T, D).

    With a cache, x are the newest positions of longer sequences, and they look at what the cache holds as well.
    """

    def __init__(self, hidden_size: int, num_heads: int, seq_len: int, theta: float = 10000.0, causal: bool = False):
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.qkv_proj = Linear(hidden_size, 3 * hidden_size)
        self.o_proj = Linear(hidden_size, hidden_size)
        cos, sin = rotary_table(seq_len, hidden_size // num_heads, theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor, cache: KeyValueCache | FixedContext | None = None) -> Tensor:
        B, T, D = x.shape
        q, k, v = self._heads(self.qkv_proj(x), 3)
        cos, sin = self._angles(cache.past if cache else 0, T, q.dtype)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache:
            out = F.scaled_dot_product_attention(q, *cache.extend(k, v), attn_mask=cache.allowed)
        else:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.o_proj(out.transpose(1, 2).reshape(B, T, D))

    def keys_values(self, x: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Keys and values, (B, N, T, head_dim) each, of x (B, T, D) at the positions from `first` on."""
        k, v = self._heads(F.linear(x, self.qkv_proj.weight[x.shape[-1] :]), 2)
        return rotate(k, *self._angles(first, x.shape[1], k.dtype)), v

    def _heads(self, x: Tensor, parts: int) -> Tensor:
        """(B, T, parts * D) -> (parts, B, N, T, head_dim)."""
        return x.view(*x.shape[:2], parts, self.num_heads, -1).permute(2, 0, 3, 1, 4)

    def _angles(self, first: int, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines of so many positions, (count, head_dim) each."""
        return self.cos[first : first + count].to(dtype), self.sin[first : first + count].to(dtype)


class Block(nn.Module):
    """Mix over positions, then over channels, each followed by a residual norm. (B, T, D) -> (B, T, D).

    `mixer="mlp"` mixes positions by a SwiGLU along T, which fixes the length; `"attention"` by self-attention, with `causal`
    to the present position and earlier ones alone.
    """

    def __init__(
        self,
        hidden_size: int,
        seq_len: int,
        mixer: str = "mlp",
        expansion: float = 4.0,
        inner_multiple: int = 256,
        num_heads: int = 8,
        norm_eps: float = 1e-5,
        rope_theta: float = 10000.0,
        causal: bool = False,
    ):
        super().__init__()
        self.norm_eps, self.over_positions = norm_eps, mixer == "mlp"
        if self.over_positions:
            self.mixer = SwiGLU(seq_len, inner_width(seq_len, expansion, inner_multiple))
        else:
            self.mixer = Attention(hidden_size, num_heads, seq_len, rope_theta, causal)
        self.mlp = SwiGLU(hidden_size, inner_width(hidden_size, expansion, inner_multiple))

    def forward(self, x: Tensor, cache: KeyValueCache | FixedContext | None = None) -> Tensor:
        if self.over_positions:
            x = x.mT  # (B, D, T): the original normalises over the positions here, not over the channels
            x = residual_norm(x, self.mixer(x), self.norm_eps).mT
        else:
            x = residual_norm(x, self.mixer(x, cache), self.norm_eps)
        return residual_norm(x, self.mlp(x), self.norm_eps)


class HouseBlock(nn.Module):
    """A block for grids of symbols whose rows, columns and boxes hold each symbol once (Sudoku). (B, T, N * D) -> the same.

    The state has a vector of D numbers for every pair of a cell and a symbol, T = N * N cells and N symbols, and the same
    weights for all pairs: exchanging two symbols, two rows of a band or two bands exchanges the answers (SE-RRM). A pair sees
    its own vector, means and largest values: of its symbol over the cell's row, column and box, of its cell over the symbols;
    and means over what the box has in common with row and column. A SwiGLU of these and a residual norm give its new vector.
    """

    # how many vectors: own; of row, column, box, symbols; of the box's part of the row, of the column
    SEEN = (1, 2, 2, 2, 2, 1, 1)

    def __init__(self, width: int, box: tuple[int, int], expansion: float, inner_multiple: int, norm_eps: float = 1e-5):
        super().__init__()
        self.width, self.box, self.norm_eps = width, tuple(box), norm_eps
        inner = inner_width(width, expansion, inner_multiple)
        self.gate_up_proj = Linear(sum(self.SEEN) * width, 2 * inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, cols = self.box
        # axes: example, band, row in it, stack, column in it, symbol, vector
        z = x.view(len(x), cols, rows, rows, cols, rows * cols, self.width)
        in_row, top_in_row, in_column = z.mean(4, True), z.amax(4, True), z.mean(2, True)
        row = in_row.mean(3, True), top_in_row.amax(3, True)
        column = in_column.mean(1, True), z.amax((1, 2), True)
        box = in_row.mean(2, True), top_in_row.amax(2, True)
        seen = (z,), row, column, box, (z.mean(5, True), z.amax(5, True)), (in_row,), (in_column,)
        # a product for each house, not for each of its pairs: the sum spreads it over them, the smallest first
        weights = self.gate_up_proj.weight.split([n * self.width for n in self.SEEN], dim=1)
        own, row, column, box, symbols, in_row, in_column = (
            F.linear(torch.cat(part, -1), weight) for part, weight in zip(seen, weights)
        )
        h = own + (row + (box + in_row)) + (column + in_column) + symbols
        gate, up = h.chunk(2, dim=-1)
        return residual_norm(z, self.down_proj(F.silu(gate) * up), self.norm_eps).view_as(x)
