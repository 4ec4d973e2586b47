r"""The best linear compressors for every size at once, from one pass over the states.

The rank-K map with the least mean squared error is the projection onto the top K eigenvectors of the second moment
$E[x x^\top]$ (Eckart and Young 1936); with a bias, of the covariance (PCA). Only sums are kept, in float64.
"""

import torch
from torch import Tensor

from trm.errors import UserError
from trm.losses import NO_FLOAT64


def require_finite(total: Tensor, batch: int) -> None:
    """Raise UserError unless `total`, a sum over the states of a batch, is finite."""
    if not torch.isfinite(total).all():  # far quicker than to look at every number
        what = f"batch {batch} of the hidden states holds a number that is not finite"
        raise UserError(f"{what}; use a wider `precision`")


class SecondMoment:
    """E[x] and E[x x'] of states x (D,), accumulated batch by batch."""

    def __init__(self, dim: int):
        self.count = 0
        self.batches = 0
        self.total = torch.zeros(dim, dtype=torch.float64)
        self.products = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, states: Tensor) -> None:
        """Accumulate states (N, D); UserError where one is not finite."""
        x = states.detach().to("cpu", torch.float64)
        total = x.sum(0)
        require_finite(total, self.batches)
        self.batches += 1
        self.count += len(x)
        self.total += total
        half = len(self.total) // 2  # symmetric: `matrix` copies the lower left quarter from the upper right
        self.products[:half].addmm_(x[:, :half].T, x)
        self.products[half:, half:].addmm_(x[:, half:].T, x[:, half:])

    @property
    def mean(self) -> Tensor:
        """E[x]: (D,)."""
        return self.total / max(self.count, 1)

    def matrix(self, centred: bool) -> Tensor:
        """E[x x'], or the covariance: (D, D)."""
        found = (self.products.triu() + self.products.triu(1).T) / max(self.count, 1)
        return found - torch.outer(self.mean, self.mean) if centred else found

    def eigen(self, centred: bool) -> tuple[Tensor, Tensor]:
        """(values (D,), vectors (D, D), one per row), the largest first."""
        values, vectors = torch.linalg.eigh(self.matrix(centred))
        return values.flip(0).clamp_min(0), vectors.flip(1).T.contiguous()


class LogitMetric:
    r"""The Fisher information of the output head: the KL of its outputs is about $d^\top F d / 2$ for a small change d of x.

    $F = E[H^\top (\mathrm{diag}\,p - p p^\top) H]$ for the head H (V, D) and its output distribution p (V,).
    """

    def __init__(self, head: Tensor):
        self.head = head.detach().to("cpu" if head.device.type in NO_FLOAT64 else head.device).float()
        self.count = 0
        self.probability = torch.zeros(len(head), dtype=torch.float64, device=self.head.device)
        self.products = torch.zeros(head.shape[1], head.shape[1], dtype=torch.float64, device=self.head.device)

    def add(self, logits: Tensor) -> None:
        """Accumulate logits (N, V)."""
        p = logits.detach().to(self.head).softmax(-1)
        pulled = (p @ self.head).double()  # (N, D): E[head row]
        self.count += len(p)
        self.probability += p.sum(0, dtype=torch.float64)
        self.products.addmm_(pulled.T, pulled)

    def matrix(self, ridge: float = 1e-4) -> Tensor:
        """F (D, D), with `ridge` times its mean eigenvalue added to the diagonal."""
        head = self.head.double()
        found = ((head.T * self.probability) @ head - self.products).cpu() / max(self.count, 1)
        return found + ridge * found.trace() / len(found) * torch.eye(len(found), dtype=torch.float64)

    def best(self, covariance: Tensor, K: int, ridge: float = 1e-4) -> tuple[Tensor, Tensor]:
        """(encoder (K, D), decoder (D, K)) of rank K with the least error of x - E[x] weighted by F: principal components of
        F^(1/2) x, mapped back by F^(-1/2). Rows of the encoder have length 1."""
        matrix = self.matrix(ridge)
        values, vectors = torch.linalg.eigh(matrix)
        values = values.clamp_min(ridge * matrix.trace() / len(matrix))  # rounding may leave some below zero
        root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
        _, basis = torch.linalg.eigh(root @ covariance @ root)
        top = basis.flip(1)[:, :K]  # (D, K)
        encoder, decoder = top.T @ root, inverse @ top
        length = encoder.norm(dim=1)
        return encoder / length[:, None], decoder * length
