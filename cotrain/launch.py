"""Start the processes of a run on this machine or on several: a thin front of torch's own launcher."""

import os
from collections.abc import Sequence

from cotrain import show
from cotrain.errors import InputError


def launch(command: Sequence[str], processes: int, machines: int, rendezvous: str | None, restarts: int) -> None:
    """Run a command of cotrain, or a script of the user's, in every process.

    Args:
        command: what follows `cotrain`, as `run fixmatch`, or a script ending in `.py` with its arguments.
        processes: on each machine.
        rendezvous: host:port of one of several machines.
        restarts: how often all processes are started again after one died; a run with an `--out` folder then goes on
            from its last checkpoint.

    Raises:
        InputError: nothing to run, a number out of range, or several machines without a place to meet.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    if not command:
        raise InputError("Say what to launch: a command as `run RECIPE`, or a script ending in .py.")
    for name, number, least in (("--nproc", processes, 1), ("--nnodes", machines, 1), ("--max-restarts", restarts, 0)):
        if number < least:
            raise InputError(f"{name} is at least {least}, not {number}.")
    if command[0].endswith(".py") and not os.path.isfile(command[0]):
        raise InputError(f"There is no script {command[0]}.")
    if machines > 1 and not (rendezvous and rendezvous.rpartition(":")[0] and rendezvous.rpartition(":")[2].isdigit()):
        said = f", not {rendezvous}" if rendezvous else ""
        raise InputError(f"Several machines need a place to meet: --rendezvous HOST:PORT, the same on each{said}.")
    # With the store shared, processes that are started again read the addresses of dead ones.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    meeting = ["--standalone"]
    if machines > 1:
        meeting = [f"--nnodes={machines}", "--rdzv-backend=c10d", f"--rdzv-endpoint={rendezvous}", "--rdzv-id=cotrain"]
    what = list(command) if command[0].endswith(".py") else ["-m", "cotrain", *command]
    try:
        main([*meeting, f"--nproc-per-node={processes}", f"--max-restarts={restarts}", *what])
    except SignalException as stopped:
        show.aside(f"cotrain: stopped by signal {int(stopped.sigval)}.")
        raise SystemExit(128 + int(stopped.sigval)) from None
    except ChildFailedError as failed:
        codes = {failure.exitcode for failure in failed.failures.values()}
        ranks = ", ".join(str(rank) for rank in sorted(failed.failures))
        show.aside(f"cotrain: rank {ranks} failed; what it said stands above.")
        raise SystemExit(min((code for code in codes if code > 0), default=1)) from None
