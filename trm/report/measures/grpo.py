"""Chapter 08's table: a language model that is rewarded for right answers."""

from pathlib import Path

from trm.grpo.findings import WANTED
from trm.report.verdicts import CONTRADICTED, IN_PART, SUPPORTED, Measured, arm, compare, measure, read_table


@measure("reward_teaches")
def reward_teaches(tables: Path) -> Measured:
    """Greedy accuracy on unseen problems after GRPO against before, and after the same with shuffled rewards. IN_PART where it
    gains on problems like those that were rewarded and loses on longer ones. (Both gains must be told, so that neither test
    need share the risk.)"""
    table = read_table(tables, "08_grpo.csv", arms=("GRPO", "shuffled"), columns=WANTED)
    after, before, other, longer, longer_before = (
        arm(table, name, column)
        for name, column in (
            ("GRPO", "accuracy_after"), ("GRPO", "accuracy_before"), ("shuffled", "accuracy_after"),
            ("GRPO", "longer_after"), ("GRPO", "longer_before"),
        )
    )  # fmt: skip
    gain, over_chance, beyond = (
        compare(a, b, ("after", what))
        for a, b, what in (
            (after, before, "before"), (after, other, "shuffled rewards"), (longer, longer_before, "before"),
        )
    )  # fmt: skip
    verdict = gain.verdict if over_chance.verdict == SUPPORTED else over_chance.verdict
    if verdict == SUPPORTED and beyond.verdict == CONTRADICTED:
        verdict = IN_PART
    text = f"right answers, {gain.text}; {over_chance.text}; problems one or two steps longer, which earned nothing, "
    scale = f"arithmetic stories with a chain, {table['minutes'].median():.0f} minutes of a core"
    return Measured(verdict, text + beyond.text, scale, gain.seeds)
