"""The table of a rollout's plan is what the plan says."""

from pipelines.rollout.plan_table import README, with_table


def test_the_table_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert "`max_p95_ratio`" in text
    assert with_table(text) == text, "run `python -m pipelines.rollout.plan_table`"
