"""What chapter 10 computes with; its code version is that of these modules and of all that they import."""

from trm.scaling import experiments, laws, pareto

__all__ = ["experiments", "laws", "pareto"]
