"""What a method is: a frozen dataclass whose roles are asked for by name."""

from dataclasses import FrozenInstanceError, dataclass

import pytest

from cotrain.errors import InputError
from cotrain.method import Method, Roles


@dataclass(frozen=True)
class Nothing(Method):
    weight: float = 1.0

    def step(self, learners, batch, memory):
        return {}


def test_a_method_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Nothing().weight = 2.0


def test_a_method_without_a_step_cannot_be_made():
    @dataclass(frozen=True)
    class Half(Method):
        pass

    with pytest.raises(TypeError, match="step"):
        Half()


def test_defaults():
    assert Nothing().memory({}) == {}
    assert Nothing().whole_batch is False
    with pytest.raises(InputError, match=r"Nothing has no example\(\)"):
        Nothing.example()


def test_whole_batch_is_set_by_an_attribute_or_a_property():
    class Always(Nothing):
        whole_batch = True

    class WithWeight(Nothing):
        @property
        def whole_batch(self):
            return self.weight > 0

    assert Always().whole_batch is True
    assert [WithWeight(weight).whole_batch for weight in (0.0, 1.0)] == [False, True]


def test_a_missing_role_names_what_was_asked_for_and_what_there_is():
    with pytest.raises(InputError, match="needs a learner named 'teacher'; given: 'student', 'critic'"):
        Roles("learner", {"student": 1, "critic": 2})["teacher"]
    with pytest.raises(InputError, match="given: none"):
        Roles("stream", {})["labelled"]
