"""Lines for people go to standard error or nowhere, and end nothing."""

import os
import sys

import pytest

from cotrain import show
from cotrain.stopping import Stopped
from cotrain.watch.watchdog import Watchdog


@pytest.mark.parametrize("closed", [True, False])
def test_a_standard_error_that_cannot_be_written_is_passed_over(closed, monkeypatch, capsys):
    for say in (lambda: show.aside("a line"), lambda: Stopped(3, "out")):
        monkeypatch.setattr(sys, "stderr", None if closed else open("/dev/full", "w"))  # noqa: SIM115
        say()
        assert closed or sys.stderr.name == os.devnull
    assert capsys.readouterr().out == ""


def test_a_line_reaches_people_at_once(capsys):
    show.aside("a line: [bold] :x:")
    Stopped(3, "out")
    Watchdog(1, store={}, rank=0, world_size=1)._say("rank 0 hangs")
    said = "a line: [bold] :x:\ncotrain: told to stop; saved at step 3 in out, resumable.\nrank 0 hangs\n"
    assert capsys.readouterr().err == said
