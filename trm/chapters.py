"""The schema of every chapter's parameters; `trm.params` says how they reach it.

A chapter's class adds to, or changes the defaults of, the one it builds on: Params, Training, TrmTrain, then the chapter.
"""

from trm.compressor.params import COMPRESSORS, Compression, ReasoningLM
from trm.grpo.params import Grpo
from trm.latent.params import LATENT_ARMS, LatentReasoning
from trm.params import ParameterError, Params, Training, arm_names, from_command_line, read_yaml, world_size
from trm.parsing.params import PARSER_ARMS, Parsing
from trm.puzzles.params import ALL_STEPS, CGAR, CURRICULUM, HALTING_ARMS, DeepSupervision, Halting, TrmTrain, split_arm
from trm.recursive_lm.params import LM_ARMS, RecursiveLM
from trm.report.params import Report, ScalingLaws
from trm.tpu.params import TpuScaling

__all__ = [
    "ALL_STEPS",
    "CGAR",
    "CHAPTERS",
    "COMPRESSORS",
    "CURRICULUM",
    "HALTING_ARMS",
    "LATENT_ARMS",
    "LM_ARMS",
    "PARSER_ARMS",
    "Compression",
    "DeepSupervision",
    "Grpo",
    "Halting",
    "LatentReasoning",
    "ParameterError",
    "Params",
    "Parsing",
    "ReasoningLM",
    "RecursiveLM",
    "Report",
    "ScalingLaws",
    "TpuScaling",
    "Training",
    "TrmTrain",
    "arm_names",
    "from_command_line",
    "read_yaml",
    "split_arm",
    "world_size",
]

# The schema of each chapter's parameters.
CHAPTERS: dict[str, type[Params]] = {
    "01_compressor": Compression,
    "02_deep_supervision": DeepSupervision,
    "03_act_halting": Halting,
    "04_trm_train": TrmTrain,
    "05_poh_ablation": Parsing,
    "06_recursive_lm": RecursiveLM,
    "07_latent_reasoning": LatentReasoning,
    "08_grpo": Grpo,
    "09_tpu_scaling": TpuScaling,
    "10_scaling_laws": ScalingLaws,
    "11_report": Report,
}
