"""Who hangs where: the words by hand, and ranks of which one hangs."""

import json
import threading
import time
from contextlib import nullcontext
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks

from cotrain.errors import InputError
from cotrain.watch import watchdog
from cotrain.watch.watchdog import Mark, Watchdog, alone, together


def mark(count=5, step=17, phase="backward", idle=30.2, where=""):
    return Mark(count, step, phase, idle, where)


def test_the_words_for_one_process():
    assert alone(mark()) == "No progress for 30 s: stuck in step 17 after phase backward."
    assert alone(mark(where="wait (loop.py:7)")).endswith("after phase backward, now in wait (loop.py:7).")
    assert alone(mark(0, 0, "")) == "No progress for 30 s: nothing was finished yet."


def test_the_words_for_many():
    text = together(
        [mark(6, 17, "step", where="read (disk.py:3)"), mark(idle=31), mark(6, 17, "step"), None],
        [True, True, False, False],
    )
    assert text.splitlines() == [
        "No progress for 31 s.",
        "  rank 0: finished step of step 17, 30 s ago, now in read (disk.py:3)",
        "  rank 1: finished backward of step 17, 31 s ago; behind",
        "  rank 2: finished step of step 17, 30 s ago; gives no sign of life",
        "  rank 3: never reported",
        "Behind: rank 1.",
        "No sign of life: rank 2.",
        "Never reported: rank 3.",
    ]


def test_nobody_behind():
    assert together([mark(), mark()], [True, True]).endswith(
        "All ranks stand at the same place: look at what comes after it."
    )


class Heard:
    """Keeps what is said, and lets one wait for it."""

    def __init__(self):
        self.texts = []
        self.event = threading.Event()

    def __call__(self, text):
        self.texts.append(text)
        self.event.set()


def hang_here(event):
    assert event.wait(20)


def test_one_process_that_hangs_is_told_where():
    heard = Heard()
    with Watchdog(0.4, heard) as watchdog:
        watchdog.done(17, "forward")
        watchdog.done(17, "backward")
        hang_here(heard.event)
    (text,) = heard.texts
    assert "stuck in step 17 after phase backward, now in " in text
    assert "(threading.py:" in text


def test_it_speaks_once_for_each_stall():
    heard = Heard()
    with Watchdog(0.2, heard) as watchdog:
        for step in range(2):
            heard.event.clear()
            watchdog.done(step, "forward")
            assert heard.event.wait(20)
        watchdog._stop.wait(0.5)  # and not again while nothing moves
    assert ["step 0" in heard.texts[0], "step 1" in heard.texts[-1], len(heard.texts)] == [True, True, 2]


def test_who_goes_on_hears_nothing():
    heard = Heard()
    with Watchdog(30.0, heard) as watchdog:
        for step in range(1000):
            watchdog.done(step, "step")
    assert heard.texts == []
    assert not watchdog._thread.is_alive()


def test_what_takes_its_time_is_no_stall(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: now[0]))
    dog = Watchdog(20.0)
    dog.done(3, "update")
    idle = []
    for passed, pause in ((5.0, False), (100.0, True), (7.0, False)):
        with dog.paused() if pause else nullcontext():
            now[0] += passed
            idle.append(dog.mark().idle)
    assert idle == [5.0, 0.0, 7.0]


def test_ranks_meet_in_a_store():
    """Ranks in one process: one ahead, one behind; one that died after it had reported, and one that never came."""
    store, heard = dist.HashStore(), [Heard(), Heard()]
    store.set("2", json.dumps({"beats": 7, **asdict(mark(2, 3, "backward", 0.5))}))
    dogs = [Watchdog(1.0, heard[rank], store=store, rank=rank, world_size=4) for rank in range(2)]
    with dogs[0], dogs[1]:
        dogs[0].done(3, "forward")
        dogs[0].done(3, "backward")
        dogs[1].done(3, "forward")
        for _ in range(200):
            if any(h.event.wait(0.1) for h in heard):
                break
        time.sleep(0.5)  # for the other one, which keeps silent
    (text,) = heard[0].texts + heard[1].texts
    assert "rank 0: finished backward of step 3" in text
    assert text.splitlines()[-3:] == ["Behind: rank 1.", "No sign of life: rank 2.", "Never reported: rank 3."]


class Gone:
    """A store whose host died."""

    def set(self, *_):
        raise RuntimeError("Broken pipe")


def test_a_store_that_is_gone_leaves_the_rank_its_own_words():
    heard = Heard()
    with Watchdog(0.2, heard, store=Gone(), rank=1, world_size=2) as watchdog:
        watchdog.done(4, "forward")
        assert heard.event.wait(20)
    assert "stuck in step 4 after phase forward" in heard.texts[0]
    assert "no store answers" in heard.texts[0]


@pytest.mark.parametrize(("timeout", "more", "said"), [(0, {}, "positive"), (1, {"store": object()}, "world_size")])
def test_bad_input(timeout, more, said):
    with pytest.raises(InputError, match=said):
        Watchdog(timeout, **more)


def _one_hangs():
    """Rank 1 does not come to the second all-reduce until somebody has spoken; rank 0 waits inside it."""
    heard = Heard()
    waiting, telling = (dist.distributed_c10d._get_default_store().clone() for _ in range(2))
    total = torch.zeros(1)

    def say(text):
        heard(text)
        telling.set("spoken", text)

    with Watchdog(2.0, say) as watchdog:
        dist.all_reduce(total)
        watchdog.done(0, "reduce")
        if dist.get_rank() == 0:
            watchdog.done(1, "forward")
        else:
            waiting.wait(["spoken"])
        dist.all_reduce(total)
    return heard.texts


def test_the_rank_that_does_not_come_to_a_collective_is_named():
    (text,) = [text for texts in run_ranks(_one_hangs, 2) for text in texts]
    assert "rank 0: finished forward of step 1" in text
    assert "rank 1: finished reduce of step 0" in text
    assert "_one_hangs (test_watchdog.py:" in text
    assert text.endswith("Behind: rank 1.")
