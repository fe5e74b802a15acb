from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from cotrain.auto.calibrate import soften, temperature
from cotrain.auto.candidates import Candidate
from cotrain.auto.choose import WORTH, Board, Choice, bootstrap
from cotrain.auto.scores import interval
from cotrain.auto.trial import Trial

EVEN = np.array([0.5, 0.5])


def trial(right, y, name="", unlabelled=False, kind="", says=None, sure=0.9, repeats=1, modality=""):
    """A learner that is right where `right` says so (NaN: not held out), always equally sure."""
    right = np.broadcast_to(np.asarray(right, float), (repeats, len(y))) if np.ndim(right) < 2 else np.asarray(right)
    own = np.where(right > 0.5, sure, 1 - sure)
    own = np.where(np.isnan(right), np.nan, own)
    probability = np.stack([np.where(y == c, own, 1 - own) for c in (0, 1)], -1)
    heard = None if says is None else np.where(np.asarray(says)[:, None] == [0, 1], 0.9, 0.1)
    candidate = Candidate(name, ("view",), unlabelled, lambda _: None, kind, modality=modality)
    return Trial(candidate, probability, unlabelled=heard)


def board(trials, y, unit=None):
    unit = np.arange(len(y)) if unit is None else np.asarray(unit)
    return Board(trials, y, unit, EVEN, np.full(len(y), 1 / len(y)))


def mixed(n, share, seed):
    return (np.random.default_rng(seed).random(n) < share).astype(float)


Y = np.arange(40) % 2
BASE = np.repeat([1.0, 0.0], [28, 12])
BETTER = np.repeat([0.0, 1.0, 0.0], [1, 30, 9])  # three rows gained and one lost: better with 0.8 to 0.9


@pytest.mark.parametrize("units", [40, 10])
def test_one_candidate_is_scored_by_the_plain_out_of_bag_bootstrap_of_each_class(units):
    right, unit = mixed(40, 0.8, 0), np.arange(40) * units // 40
    one = board([trial(right, Y)], Y, unit)
    rng = np.random.default_rng(7)
    plain = []
    for _ in range(300):
        out = (np.bincount(rng.integers(units, size=units), minlength=units) == 0)[unit]
        plain.append([right[out & (code == Y)].mean() for code in (0, 1)])
    chosen, supervised = bootstrap(one, unlabelled=True, seed=7)
    assert chosen == pytest.approx(np.mean(plain), abs=1e-12)
    assert supervised == chosen


def test_a_rare_class_counts_though_many_draws_leave_none_of_its_rows_out():
    """Three rows of a class that is never told, forty of one of which 34 are told right: one learner has no luck that
    could be taken off, so its score is (0.85 + 0) / 2. A draw in four leaves no row of the rare class out."""
    y = np.repeat([0, 1], [40, 3])
    right = np.where(y == 0, np.arange(43) >= 6, 0).astype(float)
    balanced = (1 / 2 / np.array([40, 3]))[y]
    found = Board([trial(right, y)], y, np.arange(43), EVEN, balanced)
    assert bootstrap(found, False, 0)[1] == pytest.approx(0.425, abs=0.005)


def test_the_luckiest_of_many_useless_learners_are_not_believed():
    """Twenty coins: the committee of the luckiest looks like 72 %; the correction takes half of that back and more.

    What is left is luck that the drawn rows and those left out share, for there are only forty of them.
    """
    naive, corrected = [], []
    for seed in range(8):
        found = board([trial(mixed(40, 0.5, 100 * seed + m), Y) for m in range(20)], Y)
        naive.append(found.score(found.right(found.choose().members)))
        corrected.append(bootstrap(found, True, seed, draws=60)[1])
    assert np.mean(naive) > 0.68
    assert 0.5 < np.mean(corrected) < 0.5 + 0.55 * (np.mean(naive) - 0.5)


@pytest.mark.parametrize(("folds", "taken"), [(1, False), (3, True)])
def test_a_learner_that_the_clock_cut_short_takes_nothing_over(folds, taken):
    """It is right on all rows that it was judged on, eight in a fold, where the others erred on each second one."""
    base = np.tile([1.0, 0.0], 20)
    cut = np.where(np.arange(40) < 8 * folds, 1.0, np.nan)
    found = board([trial(base, Y), trial(cut, Y, unlabelled=True, says=Y)], Y).choose()
    assert (1 in found.members) == taken
    assert ("the clock left too few rows" in found.reasons[1]) != taken


def test_a_committee_of_one_is_its_member():
    found = board([trial(mixed(40, 0.9, 0), Y), trial(mixed(40, 0.6, 1), Y)], Y)
    np.testing.assert_allclose(found.together([0]), found.probability[0], rtol=1e-12)
    np.testing.assert_array_equal(found.right([0]), found.correct[0])


def test_right_counts_over_the_repeats_in_which_a_row_was_held_out():
    y = np.array([0, 1, 0])
    repeats = np.array([[1.0, 0.0, np.nan], [1.0, 1.0, np.nan]])
    found = board([trial(repeats, y)], y)
    np.testing.assert_array_equal(found.correct[0], [1.0, 0.5, np.nan])
    assert found.score(found.correct[0]) == pytest.approx(0.75)
    assert found.evaluated.tolist() == [True, True, False]


def test_score_and_gain_by_hand():
    y = np.array([0, 1, 0, 1])
    found = board([trial([1, 1, 1, 0], y), trial([1, 0, 0, 0], y)], y)
    assert found.score(found.correct[0]) == pytest.approx(0.75)
    assert found.score(found.correct[0], np.array([0, 0, 1, 3])) == pytest.approx(0.25)
    mean, error = found.gain(found.correct[0], found.correct[1])
    assert mean == pytest.approx(0.5)
    # Differences 0, 1, 1, 0 around 0.5: four parts of (0.5 / 4)^2, and one row of doubt in five.
    assert error == pytest.approx(np.sqrt(4 * 0.125**2 + 1 / 25))
    united = board([trial([1, 1, 1, 0], y), trial([1, 0, 0, 0], y)], y, unit=[0, 1, 1, 0])
    assert united.gain(united.correct[0], united.correct[1])[1] == pytest.approx(np.sqrt(2 * 0.25**2 + 1 / 25))


def test_units_that_say_the_same_are_no_more_evidence_than_their_rows():
    """Four speakers, each with the same gain by chance: the error is that of forty rows, not that of no spread."""
    of, over = np.tile([1.0, 1.0, 0.0, 0.0, 1.0], 8), np.tile([1.0, 0.0, 1.0, 0.0, 0.0], 8)
    found = board([trial(of, Y), trial(over, Y)], Y, unit=np.arange(40) // 10)
    mean, error = found.gain(of, over)
    spread = ((of - over - 0.2) ** 2).sum() / 40**2
    assert mean == pytest.approx(0.2)
    assert error == pytest.approx(np.sqrt(spread + 1 / 41**2))


def test_equal_learners_are_never_told_apart_with_certainty():
    found = board([trial(np.ones(40), Y), trial(np.ones(40), Y)], Y)
    mean, error = found.gain(found.correct[0], found.correct[1])
    assert (mean, error) == (0.0, pytest.approx(1 / 41))


def test_temperatures_count_classes_alike_and_repeats_as_one():
    y = np.repeat([0, 1], [36, 4])
    right = np.where(y == 0, 1.0, np.arange(40) % 2)
    one, three = (board([trial(right, y, repeats=repeats)], y) for repeats in (1, 3))
    weight = np.where(y == 0, 20 / 36, 20 / 4)
    assert one.temperatures == [temperature(trial(right, y).probability[0], y, weight)]
    assert one.temperatures != [temperature(trial(right, y).probability[0], y, np.ones(40))]
    assert three.temperatures == one.temperatures


def test_a_voice_is_at_its_temperature():
    found = board([trial(mixed(40, 0.6, 0), Y)], Y)
    assert found.temperatures[0] > 1.2
    said = np.array([[0.9, 0.1]])
    np.testing.assert_allclose(found.voice([0], [said]), soften(said, found.temperatures[0]))


def test_the_committee_holds_those_within_one_standard_error():
    found = board([trial(mixed(40, 0.9, 0), Y), trial(mixed(40, 0.88, 1), Y), trial(1 - mixed(40, 0.9, 0), Y)], Y)
    assert found.committee([0, 1, 2]) == [0, 1]
    assert found.committee([2]) == [2]


def test_a_learner_on_unlabelled_rows_that_surely_gains_is_taken():
    poor, good = mixed(40, 0.6, 0), np.ones(40)
    says = np.zeros(30, int)
    choice = board([trial(poor, Y, "a"), trial(good, Y, "b", True, says=says)], Y).choose()
    assert choice.members == [1]
    assert choice.supervised == [0]
    assert choice.used_unlabelled
    assert choice.accepted == [True, True]
    assert choice.p_helped > 0.97
    assert "gains" in choice.reasons[1]


def test_a_learner_that_does_not_surely_gain_joins_where_the_committee_loses_nothing_by_it():
    right = mixed(40, 0.8, 0)
    slightly = right.copy()
    slightly[np.flatnonzero(right == 0)[:1]] = 1
    for better, gain in ((right, 0.0), (slightly, 2.5)):
        surer = trial(better, Y, "b", True, sure=0.95)  # where they differ it is heard
        choice = board([trial(right, Y, "a"), surer], Y).choose()
        assert choice.members == [0, 1]
        assert choice.supervised == [0]
        assert choice.used_unlabelled
        assert choice.accepted[1]
        assert not choice.proven
        assert 0.4 < choice.p_helped < 0.8
        assert f"the supervised committee gains {gain:.1f} points with it" in choice.reasons[1]


def test_where_only_labels_speak_supervised_learners_that_are_near_stay():
    found = board([trial(BASE, Y), trial(BETTER, Y, unlabelled=True)], Y).choose()
    assert found.proven
    assert found.members == [0, 1]


def test_learners_on_unlabelled_rows_may_be_further_behind_the_best_of_their_kind_than_supervised_ones():
    near = np.where(np.arange(40) < 2, 0.0, 1.0)  # 1.2 standard errors behind one that is always right
    best, poor = np.ones(40), mixed(40, 0.5, 0)
    taken = board([trial(poor, Y), trial(best, Y, unlabelled=True), trial(near, Y, unlabelled=True)], Y)
    assert taken.choose().members == [1, 2]
    assert board([trial(best, Y), trial(near, Y)], Y).choose().members == [0]


def test_who_is_contradicted_by_its_fellow_must_be_very_sure():
    one, other = np.arange(60) % 2, np.arange(60) // 2 % 2  # they agree by chance
    supervised = trial(BASE, Y, kind="words")
    words = trial(BETTER, Y, unlabelled=True, kind="words", says=one)
    characters = trial(BETTER, Y, unlabelled=True, kind="characters", says=other)
    assert board([supervised, words], Y).choose().proven
    assert not board([supervised, words, characters], Y).choose().proven


def test_pupils_by_whom_something_is_lost_do_not_take_the_place_of_their_teachers():
    teachers = [trial(mixed(40, 0.9, seed), Y, modality=sort) for seed, sort in enumerate(("note", "photo"))]
    pupil = trial(mixed(40, 0.6, 2), Y, unlabelled=True, modality="photo")
    pupil = replace(pupil, candidate=replace(pupil.candidate, taught=True))
    found = board([*teachers, pupil], Y).choose()
    assert found.members == [0, 1]
    assert found.accepted == [True, True, False]


def test_pupils_of_one_sort_of_columns_stand_beside_their_teachers():
    teacher = trial(BASE, Y, sure=0.6)
    pupil = trial(np.roll(BASE, 12), Y, unlabelled=True, sure=0.9)
    pupil = replace(pupil, candidate=replace(pupil.candidate, taught=True))
    found = board([teacher, pupil], Y).choose()
    assert found.members == [0, 1]
    assert found.supervised == [0]
    assert found.reasons[1] == "the committee gains 0.0 points by those taught"
    assert board([teacher, pupil], Y).choose(unlabelled=False).members == [0]


def test_a_learner_far_behind_or_by_which_the_committee_loses_is_left_out():
    right = mixed(40, 0.8, 0)
    choice = board([trial(right, Y, "a"), trial(1 - right, Y, "b", True)], Y).choose()
    assert choice.members == [0]
    assert not choice.used_unlabelled
    assert not choice.accepted[1]
    assert choice.p_helped == 0.0
    assert choice.reasons[1] == f"loses {100 * (2 * right.mean() - 1):.1f} points, surely better: 0.00"
    worse = right.copy()
    worse[np.flatnonzero(right)[:1]] = 0
    near = board([trial(right, Y, "a", sure=0.6), trial(worse, Y, "b", True, sure=0.9)], Y)
    near.temperatures, near.probability = [1.0, 1.0], np.stack([t.probability for t in near.trials])
    choice = near.choose()  # where they differ the second is heard
    assert choice.members == [0]
    assert "surely better: 0.24; the supervised committee loses 2.5 points with it" in choice.reasons[1]


def test_few_speakers_prove_no_learner_but_let_it_join():
    poor, good = mixed(40, 0.6, 0), np.ones(40)
    trials = [trial(poor, Y, "a"), trial(good, Y, "b", True)]
    assert board(trials, Y).choose().members == [1]
    four = board(trials, Y, unit=np.arange(40) // 10).choose()
    assert four.members == [0, 1]
    assert not four.proven
    assert board(trials, Y, unit=np.arange(40) // 4).choose().members == [1]  # ten may


def test_a_few_rows_that_are_units_of_their_own_may_prove_a_learner():
    y = np.arange(8) % 2
    found = board([trial(np.arange(8) < 2, y), trial(np.ones(8), y, unlabelled=True)], y).choose()
    assert found.accepted[1]
    assert found.proven


def test_it_is_not_even_asked_where_the_unlabelled_rows_have_no_say():
    found = board([trial(mixed(40, 0.6, 0), Y), trial(np.ones(40), Y, unlabelled=True)], Y)
    assert found.choose(unlabelled=False).members == [0]


def test_what_learners_say_of_unlabelled_rows_is_heard_for_the_classes_shares():
    one = trial(mixed(40, 0.8, 0), Y, says=np.zeros(10, int))
    one.unlabelled = np.tile([0.55, 0.45], (10, 1))
    found = Board([one], Y, np.arange(40), np.array([0.1, 0.9]), np.full(40, 1 / 40))
    assert found.heard[0].tolist() == [1] * 10


def test_agreement_between_views_is_cohens_kappa():
    one, two = np.array([0, 0, 1, 1, 0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 0, 1, 0, 1, 1, 0])
    right = np.ones(40)
    found = board(
        [
            trial(right, Y, "s", says=one, kind="words"),
            trial(right, Y, "a", True, says=one, kind="words"),
            trial(right, Y, "b", True, says=two, kind="characters"),
            trial(right, Y, "c", True, says=np.zeros(10, int), kind="topics"),
            trial(right, Y, "d", True, says=one, kind="both"),
        ],
        Y,
    )
    # 8 of 10 the same, 5 of 10 by chance: (0.8 - 0.5) / (1 - 0.5).
    np.testing.assert_allclose(found.agreement, [np.nan, 0.6, 0.6, 0.0, np.nan])
    one, two = np.repeat([0, 1], [8, 2]), np.repeat([0, 1], [9, 1])
    skewed = [
        trial(right, Y, unlabelled=True, says=says, kind=kind) for says, kind in ((one, "words"), (two, "topics"))
    ]
    # 9 of 10 the same, 0.8 * 0.9 + 0.2 * 0.1 by chance.
    np.testing.assert_allclose(board(skewed, Y).agreement, (0.9 - 0.74) / 0.26)


def test_unlabelled_rows_may_speak_for_learners_that_agree_on_other_views():
    """Two learners on two views that say the same of 200 rows, with a gain that the labels alone could not show."""
    rng = np.random.default_rng(0)
    says = rng.integers(0, 2, 200)
    other = np.where(rng.random(200) < 0.3, 1 - says, says)  # supervised learners agree less
    right = mixed(20, 0.8, 3)
    better = right.copy()
    better[np.flatnonzero(right == 0)[:1]] = 1
    y = Y[:20]
    agreeing = [
        trial(right, y, "s1", says=says, kind="words"),
        trial(right, y, "s2", says=other, kind="characters"),
        trial(better, y, "u1", True, says=says, kind="words"),
        trial(better, y, "u2", True, says=says, kind="characters"),
    ]
    choice = board(agreeing, y).choose()
    assert choice.used_unlabelled
    assert "the unlabelled rows speak for it" in choice.reasons[2]
    apart = [*agreeing[:2], trial(better, y, "u1", True, says=says, kind="words")]
    assert not board(apart, y).choose().proven


@pytest.mark.parametrize(("right", "proven"), [(71, True), (68, False)])
def test_labels_may_contradict_what_agreement_promises(right, proven):
    """Kappa 0.8 promises that 0.9 are right; less than 0.9 - 2 / sqrt(100) of 100 labels contradict it."""
    y = says = np.arange(100) % 2
    other = np.where(np.arange(100) % 10 == 0, 1 - says, says)
    told = np.arange(100) < right
    found = board(
        [
            trial(told, y, kind="words"),
            trial(told, y, unlabelled=True, kind="words", says=says),
            trial(told, y, unlabelled=True, kind="characters", says=other),
        ],
        y,
    )
    assert found.agreement[1] == pytest.approx(0.8, abs=0.01)
    assert found.choose().proven is proven


@pytest.mark.parametrize(("score", "rows"), [(1.0, 12), (0.0, 12), (0.75, 40)])
def test_intervals_are_jeffreys_and_never_have_zero_width(score, rows):
    found = interval(score, np.full(rows, 1 / rows))
    low, high = beta.ppf([0.05, 0.95], score * rows + 0.5, (1 - score) * rows + 0.5)
    assert (found.low, found.high) == (pytest.approx(min(low, score)), pytest.approx(max(high, score)))
    assert found.low <= found.estimate <= found.high
    assert found.high - found.low > 0.1
    wider = interval(score, np.full(rows, 1 / rows), worth=0.5)
    assert wider.high - wider.low > found.high - found.low


def test_intervals_cover_nine_times_of_ten():
    rng = np.random.default_rng(0)
    for share in (0.6, 0.8, 0.95):
        found = [interval(rng.binomial(30, share) / 30, np.full(30, 1 / 30)) for _ in range(2_000)]
        assert np.mean([one.low <= share <= one.high for one in found]) == pytest.approx(0.9, abs=0.05)


def test_rows_that_count_more_make_the_interval_wider():
    even, uneven = np.full(20, 1 / 20), np.r_[np.full(18, 0.5 / 18), 0.25, 0.25]
    one, other = interval(0.8, even), interval(0.8, uneven)
    assert other.high - other.low > one.high - one.low


def test_rows_that_nobody_judged_count_nothing_in_an_interval():
    right = mixed(40, 0.8, 0)
    right[10:] = np.nan
    found = board([trial(right, Y)], Y)
    alone = board([trial(right[:10], Y[:10])], Y[:10])
    one, other = (each.interval(0.8, each.correct[0]) for each in (found, alone))
    assert (one.low, one.high) == (pytest.approx(other.low), pytest.approx(other.high, abs=0.02))


def test_estimates_are_for_the_shares_of_the_rows_to_come_and_choices_for_those_of_the_labels():
    """All of one class right, half of the other, as many labels of both, but nine rows in ten are of the first."""
    right = np.where(Y == 0, 1.0, np.arange(40) % 4 == 1)
    stands_for = np.where(Y == 0, 0.9, 0.1) / 20
    found = Board([trial(right, Y)], Y, np.arange(40), EVEN, np.full(40, 1 / 40), stands_for)
    assert found.score(found.correct[0]) == pytest.approx(0.75)
    assert found.estimate(found.correct[0]) == pytest.approx(0.95)
    assert bootstrap(found, True, 0)[0] == pytest.approx(0.95, abs=0.01)
    even = board([trial(right, Y)], Y)
    assert found.interval(0.9, right).low < even.interval(0.9, right).low  # twenty rows say nearly all


def test_the_chance_that_it_helped_is_for_rows_to_come():
    """Each tells a quarter of the rows of one class and all of the other; nine rows in ten will be of the first."""
    base = np.where(Y == 0, np.arange(40) % 8 == 0, True)
    other = np.where(Y == 0, True, np.arange(40) % 8 == 1)
    stands_for = np.where(Y == 0, 0.9, 0.1) / 20
    found = Board([trial(base, Y), trial(other, Y)], Y, np.arange(40), EVEN, np.full(40, 1 / 40), stands_for)
    assert found.gain(other.astype(float), base.astype(float))[0] == pytest.approx(0)
    assert found.surely_better([1], [0]) > 0.95


def test_what_only_one_side_was_judged_on_is_left_out_of_both_scores():
    """The time ended after a fold of the learner on unlabelled rows, which the others tell as well."""
    supervised, late = mixed(40, 0.8, 0), np.full(40, np.nan)
    late[:8], supervised[:8] = 1.0, 1.0
    found = board([trial(supervised, Y), trial(late, Y, "late", True, says=np.arange(50) % 2)], Y)
    chosen, without = found.rights(Choice([1], [0], True, 0.5, ["", ""], [True, True]))
    assert (found.estimate(chosen), found.estimate(without)) == (1.0, 1.0)
    assert found.estimate(found.right([0])) < 0.9


def test_luck_is_subtracted_where_draws_lack_classes():
    """Thirty classes of two labels: no draw holds all of them."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(30), 2)
    probability = np.full((10, 1, 60, 30), 0.5 / 29)
    said = np.where(rng.random((10, 60)) < 0.5, y, (y + 1) % 30)
    for m in range(10):
        probability[m, 0, np.arange(60), said[m]] = 0.5
    trials = [Trial(Candidate(str(m), ("view",), False, lambda _: None), probability[m]) for m in range(10)]
    found = Board(trials, y, np.arange(60), np.full(30, 1 / 30), np.full(60, 1 / 60))
    naive = found.score(found.right(found.choose().supervised))
    corrected = bootstrap(found, False, 0, draws=60)[1]
    assert 0 < corrected < naive


def test_shares_decide_before_the_largest_wins():
    y = np.array([0, 0, 0, 1])
    probability = np.full((1, 4, 2), [0.4, 0.6])
    said = Trial(Candidate("", ("view",), False, lambda _: None), probability)
    even = Board([said], y, np.arange(4), EVEN, np.full(4, 0.25))
    skewed = Board([said], y, np.arange(4), np.array([0.8, 0.2]), np.full(4, 0.25))
    assert even.correct[0].tolist() == [0, 0, 0, 1]
    assert skewed.correct[0].tolist() == [1, 1, 1, 0]


def test_rows_that_are_right_and_wrong_together_are_worth_less():
    right = mixed(40, 0.7, 0)
    apart = board([trial(right, Y)], Y)
    assert apart.worth(apart.correct[0]) == WORTH
    speakers = np.repeat([1.0, 0.0, 1.0, 1.0], 10)
    together = board([trial(speakers, Y)], Y, unit=np.arange(40) // 10)
    # Four units, three of them right: the variance of their mean is 0.75 * 0.25 / 3, that of 40 single rows
    # 0.75 * 0.25 / 40; the interval of four is by Student's t wider than by the normal distribution.
    t = 2.353
    assert together.worth(together.correct[0]) == pytest.approx(3 / 40 * (1.645 / t) ** 2, rel=1e-3)


def test_rows_that_are_all_right_are_worth_as_much_as_ever():
    right = np.ones(30)
    right[7] = np.nan  # never held out, and counts nothing
    made = board([trial(right, Y[:30])], Y[:30])
    assert made.worth(made.correct[0]) == WORTH
    assert made.interval(1.0, made.correct[0]).low == pytest.approx(beta.ppf(0.05, WORTH * 29 + 0.5, 0.5))


def test_routes_that_meet_speak_for_each_other_and_form_the_committee():
    """On one view: a graph and self-training agree on all unlabelled rows, the supervised learners do not."""
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=200)
    wrong = [np.where(rng.random(200) < 0.25, 1 - truth, truth) for _ in range(2)]
    right = mixed(40, 0.95, 3)

    def on_table(name, says, route, unlabelled):
        made = trial(right, Y, name, unlabelled, "table", says)
        return replace(made, candidate=replace(made.candidate, route=route))

    supervised = [on_table("line", wrong[0], "", False), on_table("trees", wrong[1], "trees", False)]
    others = [on_table("graph", truth, "graph", True), on_table("guesses", truth, "guesses", True)]
    found = board([*supervised, *others], Y).choose()
    assert found.members == [2, 3]
    assert "the unlabelled rows speak for it" in found.reasons[2]
    same = [on_table("graph", truth, "graph", True), on_table("taught by graph", truth, "graph", True)]
    assert not board([*supervised, *same], Y).choose().proven  # one route cannot speak for itself


def on_views(*gains, seed=0):
    """A supervised committee that is right on 180 of 200 rows, and learners on unlabelled rows that agree on views of
    their own and are right on so many rows more (or fewer), half of them on others than the committee."""
    rng = np.random.default_rng(seed)
    y, truth = np.arange(200) % 2, rng.integers(2, size=300)
    base = (np.arange(200) % 10 > 0).astype(float)
    poor = [np.where(rng.random(300) < 0.3, 1 - truth, truth) for _ in range(2)]
    trials = [trial(base, y, f"s{n}", says=says, kind=f"view {n}") for n, says in enumerate(poor)]
    for n, gain in enumerate(gains):
        right = base.copy()
        right[np.flatnonzero(base == 0)[10 * n :][: 10 + max(gain, 0)]] = 1
        right[np.flatnonzero(base == 1)[40 * n :][: 10 - min(gain, 0)]] = 0
        says = np.where(rng.random(300) < 0.05, 1 - truth, truth)
        trials.append(trial(right, y, f"u{n}", True, says=says, kind=f"view {n}"))
    return board(trials, y)


def test_where_the_unlabelled_rows_speak_for_one_those_that_are_hardly_behind_come_with_it():
    level, behind, far = 0, -3, -12  # the error of a gain is of about five rows
    found = on_views(level, behind).choose()
    assert found.members == [2, 3]
    assert "the unlabelled rows speak for it" in found.reasons[3]
    assert on_views(behind, behind).choose().proven is False  # nobody opens the door
    assert on_views(level, far).choose().accepted[3] is False


def test_one_alone_for_which_the_unlabelled_rows_speak_does_not_put_the_others_out_unless_it_is_better():
    assert on_views(0, -12).choose().members == [0, 1, 2]
    assert on_views(2, -12).choose().members == [2]


@pytest.mark.parametrize(("error", "believed"), [(0.02, True), (0.14, False)])
def test_agreement_speaks_for_learners_only_where_it_is_more_than_that_of_supervised_ones(error, believed):
    """On an easy table all agree; then only the labels can tell."""
    rng = np.random.default_rng(1)
    truth = rng.integers(2, size=400)
    says = [np.where(rng.random(400) < e, 1 - truth, truth) for e in (0.05, 0.05, error / 2, error / 2)]
    right = mixed(40, 0.95, 3)
    kinds = ("words", "characters", "words", "characters")
    trials = [
        trial(right, Y, str(i), i > 1, kind, heard) for i, (kind, heard) in enumerate(zip(kinds, says, strict=True))
    ]
    assert board(trials, Y).choose().proven is believed


def test_learners_that_see_the_same_do_not_make_agreement_usual():
    """An encoder's line and its trees agree by sight of the same numbers; words and the encoder do not."""
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=200)
    line, words, near = (np.where(rng.random(200) < error, 1 - truth, truth) for error in (0.25, 0.25, 0.02))
    right = mixed(40, 0.95, 3)

    def made(name, says, kind, route="", unlabelled=False):
        one = trial(right, Y, name, unlabelled, kind, says)
        return replace(one, candidate=replace(one.candidate, route=route))

    encoder = [made("line", line, "encoder"), made("trees", line, "encoder", "trees")]
    others = [made("em", truth, "words", "", True), made("graph", near, "encoder", "graph", True)]
    assert board([*encoder, made("naive Bayes", words, "words"), *others], Y).choose().members == [3, 4]
    assert not board([*encoder, *others], Y).choose().proven  # one kind: its routes are all there is


def test_intervals_reach_up_to_what_more_labels_than_in_a_fold_may_give():
    even = np.full(40, 1 / 40)
    plain, wider = interval(0.6, even), interval(0.6, even, growth=0.5)
    assert (wider.estimate, wider.low) == (plain.estimate, plain.low)
    assert wider.high == pytest.approx(interval(0.8, even).high)
    two = np.array([0, 0, 1, 1, 1, 1, 1])
    # Of the class of two one is left, of the class of five four.
    expected = (2 * 0.5**0.5 + 5 * 0.8**0.5) / 7
    assert board([trial(np.ones(7), two)], two).growth == pytest.approx(expected)
    assert board([trial(np.ones(40), Y)], Y, unit=np.arange(40) // 20).growth == pytest.approx(0.5**0.5)  # of 2 units
    right = mixed(40, 0.7, 0)
    one = board([trial(right, Y)], Y)
    assert one.interval(0.7, right).high > interval(0.7, even, worth=one.worth(right)).high


# Several sorts of columns


def two_sorts(y=Y, **other):
    """A learner on notes, another on photographs and a poor one there, that err apart."""
    return [
        trial(mixed(len(y), 0.8, 0), y, "note", modality="note", sure=0.8),
        trial(mixed(len(y), 0.75, 1), y, "photo", modality="photo", sure=0.75),
        trial(mixed(len(y), 0.2, 2), y, "poor", modality="photo", sure=0.75, **other),
    ]


def test_each_sort_of_columns_has_its_committee_and_their_words_are_multiplied():
    found = board(two_sorts(), Y)
    assert found.parts == [[0], [1, 2]]
    choice = found.choose()
    assert choice.members == choice.supervised == [0, 1]
    assert choice.reasons[:2] == ["within one standard error of the best"] * 2
    assert choice.reasons[2] == "behind the best supervised"
    blend = found.blend([0, 1])
    assert blend.parts == ((0,), (1,))
    assert blend.doubt == pytest.approx(1 / 42)  # of 40 rows
    doubted = (1 - blend.doubt) * found.probability[:2] + blend.doubt / 2
    odds = [p[..., 1] / p[..., 0] for p in doubted]
    expected = (odds[0] * odds[1]) ** (1 / blend.temperature)
    together = found.together([0, 1])
    np.testing.assert_allclose(together[..., 1] / together[..., 0], expected, rtol=1e-9)


def test_two_sorts_of_columns_are_right_more_often_than_either():
    y = np.arange(2_000) % 2
    rng = np.random.default_rng(0)
    trials = []
    for name in ("note", "photo"):
        score = rng.normal(size=len(y)) + np.where(y == 1, 1.0, -1.0)  # the log odds are twice the score
        probability = 1 / (1 + np.exp(-2 * score))
        candidate = Candidate(name, (name,), False, lambda _: None, name, modality=name)
        trials.append(Trial(candidate, np.stack([1 - probability, probability], -1)[None]))
    found = board(trials, y)
    one, other, both = (found.score(found.right(members)) for members in ([0], [1], [0, 1]))
    assert max(one, other) < 0.86  # of 0.841 = Phi(1)
    assert both == pytest.approx(0.921, abs=0.015)  # Phi(sqrt 2)
    averaged = Board([replace(t, candidate=replace(t.candidate, modality="")) for t in trials], y, np.arange(len(y)),
                     EVEN, np.full(len(y), 1 / len(y)))  # fmt: skip
    assert found.blend([0, 1]).temperature == pytest.approx(1, abs=0.15)
    assert averaged.blend([0, 1]).temperatures[0] < 0.9  # a mean is too cautious


def test_two_sorts_of_columns_that_err_on_the_same_rows_are_less_sure_together():
    found = board([trial(BASE, Y, modality=sort) for sort in ("note", "photo")], Y)
    assert found.blend([0, 1]).temperature > 1.5


def test_learners_on_unlabelled_rows_are_measured_within_their_sort():
    """The one on photographs is surely better than others on photographs, though not than the note."""
    y = np.arange(200) % 2
    trials = [
        trial(mixed(200, 0.9, 0), y, "note", modality="note"),
        trial(mixed(200, 0.6, 1), y, "photo", modality="photo", sure=0.6),
        trial(mixed(200, 0.85, 2), y, "photo too", True, says=np.arange(50) % 2, modality="photo", sure=0.95),
    ]
    choice = board(trials, y).choose()
    assert choice.members == [0, 2]
    assert choice.supervised == [0, 1]
    assert choice.used_unlabelled
    assert board(trials, y).choose(unlabelled=False).members == [0, 1]


def test_a_sort_without_a_learner_on_labelled_rows_has_no_say():
    trials = [trial(mixed(40, 0.8, 0), Y, "note", modality="note"),
              trial(mixed(40, 0.9, 1), Y, "photo", True, says=np.arange(50) % 2, modality="photo")]  # fmt: skip
    choice = board(trials, Y).choose()
    assert choice.members == [0]
    assert not choice.accepted[1]
    assert "no learner on labelled rows" in choice.reasons[1]


def test_the_bootstrap_draws_committees_of_every_sort():
    found = board(two_sorts(), Y)
    chosen, supervised = bootstrap(found, True, 0, draws=40)
    assert chosen == supervised
    assert 0.6 < chosen < 1
