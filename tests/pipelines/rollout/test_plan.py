"""What a plan may change, and what it says of what it may not."""

import pytest
from pydantic import ValidationError

from pipelines.rollout.plan import InvalidPlan, Plan, make_plan


def test_what_is_not_named_has_its_default():
    plan = make_plan({"steps": [0, 10, 100], "replay": {"max_tag_flips": {"emotion": 0.4}}})
    assert plan.steps == (0, 10, 100)
    assert plan.replay.max_tag_flips.emotion == 0.4
    assert plan.replay.max_tag_flips.language == Plan().replay.max_tag_flips.language
    assert plan.bake_seconds == Plan().bake_seconds
    assert make_plan({}) == Plan()


def test_a_plan_survives_json():
    plan = Plan(steps=(0, 1, 100), min_requests=0, max_p99_ratio=3.5)
    assert make_plan(plan.model_dump(mode="json")) == plan


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bake_second": 3}, "plan.bake_second: Extra inputs are not permitted"),
        ({"bake_seconds": 0}, "plan.bake_seconds: Input should be greater than 0"),
        ({"bake_seconds": "soon"}, "plan.bake_seconds: Input should be a valid number"),
        ({"max_error_rate": 1.5}, "plan.max_error_rate: Input should be less than or equal to 1"),
        ({"failure_limit": -1}, "plan.failure_limit: Input should be greater than or equal to 0"),
        ({"replay": {"clips": 0}}, "plan.replay.clips: Input should be greater than or equal to 1"),
        (
            {"replay": {"max_tag_flips": {"mood": 1}}},
            "plan.replay.max_tag_flips.mood: Extra inputs",
        ),
        ({"model_name": ""}, "plan.model_name: String should have at least 1 character"),
    ],
)
def test_a_wrong_change_is_named_with_its_field(changes, told):
    with pytest.raises(InvalidPlan) as error:
        make_plan(changes)
    assert str(error.value).startswith(told)


@pytest.mark.parametrize(
    "steps", [[], [0], [100], [5, 100], [0, 50], [0, 50, 20, 100], [0, 50, 50, 100], [0, 101]]
)
def test_steps_must_rise_from_0_to_100(steps):
    with pytest.raises(InvalidPlan, match="steps"):
        make_plan({"steps": steps})


def test_at_once_keeps_all_but_the_steps():
    plan = Plan(bake_seconds=7)
    assert plan.at_once() == Plan(bake_seconds=7, steps=(0, 100))


def test_a_plan_cannot_be_changed():
    with pytest.raises(ValidationError):
        Plan().bake_seconds = 1
