import pytest

from cotrain.auto import pace as module
from cotrain.auto.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """Seconds that stand still until they are set."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_the_first_piece_is_tried_unless_the_time_is_over(clock):
    assert Pace(10, lambda: 0.0).will_do()
    assert not Pace(10, lambda: -0.1).will_do()


def test_what_a_piece_is_thought_to_take_counts_until_the_first_is_done(clock):
    assert not Pace(5, lambda: 9.9, each=2.0).will_do()
    pace = Pace(5, lambda: 10.0, each=2.0)
    assert pace.will_do()
    clock[0] = 2.5  # four pieces are ahead, as long as the first each
    assert pace.will_do()
    clock[0] = 7.0  # 3.5 seconds a piece, three ahead
    assert not pace.will_do()


def test_all_pieces_ahead_must_find_time(clock):
    pace = Pace(3, lambda: 10.0 - clock[0])
    assert pace.will_do()
    clock[0] = 3.0
    assert pace.will_do()  # two more at 3 seconds in 7
    clock[0] = 8.0
    assert not pace.will_do()  # one more at 4 seconds in 2
