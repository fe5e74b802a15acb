"""Runs one setting of a peer on one cell: its test score, its cross-validated score, its time; within a time limit."""

import math
import resource
import signal
import time
import warnings
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from peers.sets import Cell, Matrices
from peers.settings import Setting, fit


def attempt(setting: Setting, cell: Cell, data: Matrices, limit: float, cv_limit: float) -> dict[str, Any]:
    """{"scores": {"test", "macro_f1", "cv"}, "seconds"} or {"skipped": why}.

    The fit runs in a process of its own, which ends after `limit` seconds of processor time (or four times that on the
    clock). The score by 5-fold cross-validation on the labelled rows is left out ("cv": None) where one fit takes more
    than `cv_limit` seconds of processor time.
    """
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, setting, cell, data, limit, cv_limit))
    process.start()
    theirs.close()
    found: dict[str, Any] = {}
    try:
        while not found or found.get("seconds", cv_limit) < cv_limit:
            if not ours.poll(4 * limit):
                break
            found |= ours.recv()
    except EOFError:  # it said all it had to say, or was ended
        pass
    process.join(1)
    ended = process.exitcode  # None: it still runs, far over its time
    process.kill()
    process.join()
    if not found:
        late = ended is None or ended == -signal.SIGXCPU
        return {"skipped": f"a fit took more than {limit:g} s" if late else f"the process ended with {ended}"}
    if "scores" in found and found["scores"]["cv"] is None and found["seconds"] < cv_limit:
        found.setdefault("cv_skipped", "cross-validation took too long")
    return found


def _work(answers: Connection, setting: Setting, cell: Cell, data: Matrices, limit: float, cv_limit: float) -> None:
    warnings.simplefilter("ignore")
    _allow(limit)
    try:
        start = time.process_time()
        first_test = len(data.y) + data.unlabelled
        estimator = fit(setting, data, np.arange(len(data.y)), data.y)
        said = estimator.predict(getattr(data, setting.features)[first_test:])
        seconds = time.process_time() - start
        macro = f1_score(data.truth, said, average="macro")
        scores = {"test": cell.score(data.truth, said), "macro_f1": macro, "cv": None}
        answers.send({"scores": scores, "seconds": round(seconds, 3)})
    except Exception as error:  # a peer that cannot do a set is part of the result
        answers.send({"skipped": _said(error)})
        return
    if seconds < cv_limit:
        _allow(seconds + 6 * cv_limit)
        try:
            answers.send({"scores": {**scores, "cv": cross_validated(setting, cell, data)}})
        except Exception as error:
            answers.send({"cv_skipped": _said(error)})


def _allow(seconds: float) -> None:
    """The system ends this process once it has used so much processor time; a limit in whole seconds, rounded up."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), hard))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def cross_validated(setting: Setting, cell: Cell, data: Matrices) -> float:
    """The metric on the labelled rows, each predicted by a fit without it; folds by speaker where there are some."""
    folds = min(5, int(np.bincount(data.y).max()))
    splitter: StratifiedKFold | StratifiedGroupKFold = StratifiedKFold(folds, shuffle=True, random_state=cell.seed)
    if data.groups is not None:
        splitter = StratifiedGroupKFold(min(folds, len(set(data.groups))), shuffle=True, random_state=cell.seed)
    said = np.full(len(data.y), -1)
    x = getattr(data, setting.features)
    for known, held in splitter.split(np.zeros(len(data.y)), data.y, data.groups):
        said[held] = fit(setting, data, known, data.y[known]).predict(x[held])
    return float(cell.score(data.y, said))
