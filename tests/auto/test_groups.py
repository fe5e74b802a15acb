"""Tests of hints at groups in columns and in the names of files."""

import pandas as pd
import pytest

from cotrain.auto.groups import group_hints, shared_prefix_groups


class TestPartsOfNames:
    speakers = ("george", "jackson", "theo")

    def names(self):
        return [f"{digit}_{who}_{i}.wav" for digit in range(10) for who in self.speakers for i in range(5)]

    def test_spoken_digits(self):
        names = self.names()
        expected = [name.split("_")[1] for name in names]
        labels = [name[0] if i % 7 == 0 else "" for i, name in enumerate(names)]
        assert shared_prefix_groups(names) == expected
        assert shared_prefix_groups(names, labels) == expected

    def test_folders(self):
        names = [f"clips/{who}/{digit}-{i}.flac" for digit in range(5) for who in self.speakers for i in range(4)]
        assert shared_prefix_groups(names) == [name.split("/")[1] for name in names]

    def test_the_label_is_no_group(self):
        names = [f"{animal}_{i:03}.wav" for animal in ("cat", "cow", "dog", "owl") for i in range(10)]
        assert shared_prefix_groups(names, [name[:3] for name in names]) is None

    def test_numbered_speakers_come_before_numbered_takes(self):
        names = [f"{digit}_{who:02}_{take}.wav" for digit in range(4) for who in range(6) for take in range(5)]
        assert shared_prefix_groups(names, [name[0] for name in names]) == [name[2:4] for name in names]

    @pytest.mark.parametrize(
        "names", [[], ["a.wav"], [f"{i}.wav" for i in range(50)], ["x_1_a", "y_2", "z", "w_1_2_3"] * 9]
    )
    def test_no_hint(self, names):
        assert shared_prefix_groups(names) is None

    def test_a_constant_or_lopsided_field_is_none(self):
        assert shared_prefix_groups([f"clip_{i}.wav" for i in range(60)]) is None
        assert shared_prefix_groups([f"x{i}_{'a' if i % 10 else 'bcd'[i % 3]}.wav" for i in range(60)]) is None


def test_a_part_that_counts_up_is_no_hint_and_digits_that_are_no_numbers_are_none():
    for parts, hints in (("0123", 0), ("²³⁴⁵", 1)):
        names = [f"{part}_{who}.png" for part in parts for who in range(5, 10)]
        frame = pd.DataFrame({"photo": names, "label": ["a", "b", None, None] * 5})
        found = group_hints(frame, "label", [], ["photo"])
        assert sum("share their part 1" in hint for hint in found) == hints
