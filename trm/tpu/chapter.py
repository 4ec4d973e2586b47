"""What chapter 09 computes with; its code version is that of these modules and of all that they import."""

from trm.tpu import compare, plan, suites

__all__ = ["compare", "plan", "suites"]
