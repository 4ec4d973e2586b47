"""Slices of TPU v4, by their published numbers."""

from dataclasses import dataclass
from math import prod

GIB = 2**30


@dataclass(frozen=True)
class Slice:
    """A slice of TPU v4 chips, and what one chip can do. Sources: Google Cloud's page of the TPU v4; the rate of a link from
    "How to Scale Your Model" (Austin et al. 2025)."""

    name: str
    topology: tuple[int, int, int]  # chips along x, y and z
    chips_per_host: int = 4
    cores_per_chip: int = 2
    peak_flops: float = 275e12  # bfloat16, a second and chip
    memory: int = 32 * GIB  # bytes a chip
    bandwidth: float = 1.2e12  # bytes a second and chip, to that memory
    link: float = 45e9  # bytes a second, one link in one direction

    @property
    def chips(self) -> int:
        """Chips; PJRT drives each by a process of its own, SPMD all of a host by one."""
        return prod(self.topology)

    @property
    def hosts(self) -> int:
        """Machines that the chips belong to."""
        return self.chips // self.chips_per_host


SLICES = {s.name: s for s in (Slice("v4-8", (2, 2, 1)), Slice("v4-16", (2, 2, 2)), Slice("v4-64", (2, 4, 4)))}
