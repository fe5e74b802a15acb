"""Which learners of a checkpoint a run takes over."""

import pytest
import torch

from cotrain.errors import InputError
from cotrain.run_state import common

SAVED = {
    "one": {"weight": torch.zeros(2, 3)},
    "two": {"weight": torch.zeros(4), "bias": torch.zeros(4)},
    "old": {"scale": torch.tensor(1.0)},
}


class TestCommon:
    def test_all_fit(self):
        assert common(SAVED, {**SAVED, "two": None}) == ["one", "two", "old"]

    def test_of_extra_state_nothing_is_compared(self):
        saved = {"one": {"weight": torch.zeros(2), "_extra_state": {"calls": 3}}}
        assert common(saved, {"one": {"weight": torch.ones(2), "_extra_state": None}}) == ["one"]

    def test_the_table(self):
        present = {
            "one": SAVED["one"],
            "two": {"weight": torch.zeros(5), "bias": torch.zeros(4)},
            "new": {str(i): torch.zeros(i) for i in range(1, 9)},
        }
        with pytest.raises(InputError) as caught:
            common(SAVED, present)
        assert str(caught.value).splitlines() == [
            "The learners differ:",
            "  two  was weight 4; is weight 5",
            "  old  unexpected, not in this run: scale number",
            "  new  missing in the checkpoint: 1 1, 2 2, 3 3, 4 4, 5 5, 6 6, and 2 more",
        ]
        assert common(SAVED, present, partial=("one",)) == ["one"]
        assert common(SAVED, present, partial=()) == []
        for name in ("two", "old", "new"):
            with pytest.raises(InputError, match=name):
                common(SAVED, present, partial=("one", name))
        with pytest.raises(InputError, match="tow  neither in the checkpoint nor in this run"):
            common(SAVED, present, partial=("tow",))
