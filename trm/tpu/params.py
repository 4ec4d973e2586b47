"""Parameters of chapter 09, TPUs."""

from typing import ClassVar, Literal

from pydantic import Field

from trm.params import Params


class TpuScaling(Params):
    """Chapter 09: the suites on a TPU slice, by arithmetic; and the same training on XLA devices, measured."""

    COMPUTED_BY: ClassVar[str] = "trm.tpu.chapter"

    slice: Literal["v4-8", "v4-16", "v4-64"] = Field("v4-64", description="TPU slice to plan for")
    compare_slice: Literal["v4-8", "v4-16", "v4-64"] = Field("v4-8", description="a second slice, for comparison")
    suites: str = Field("tpu_quickstart, scaling_research", description="sweeps to plan, at paper scale")
    utilisation: float = Field(0.4, gt=0, le=1, description="assumed share of peak FLOP/s")
    host_milliseconds: float = Field(2.3, ge=0, description="a host's time to trace one layer's application; 0: none")
    measure: Literal["auto", "yes", "no"] = Field("auto", description="train on XLA; auto: if torch_xla is installed")
    steps: int = Field(20, ge=2, description="optimizer steps of each measured training")
    devices: int = Field(8, ge=1, description="XLA devices that the processor emulates")
    pjrt_device: Literal["CPU", "TPU"] = Field("CPU", description="XLA devices: emulated by the processor or real ones")
    tables: str = Field("", description="folder to write the tables to, such as book/results; empty: none")
