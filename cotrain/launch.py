"""Start the processes of a run on this machine or on several: a thin front of torch's own launcher."""

import os
import sys
from collections.abc import Sequence

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
        InputError: nothing to run, or several machines without a place to meet.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    if not command:
        raise InputError("Say what to launch: a command as `run RECIPE`, or a script ending in .py.")
    if machines > 1 and rendezvous is None:
        raise InputError("Several machines need a place to meet: --rendezvous HOST:PORT, the same on each.")
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
        print(f"cotrain: stopped by signal {int(stopped.sigval)}.", file=sys.stderr)
        raise SystemExit(128 + int(stopped.sigval)) from None
    except ChildFailedError as failed:
        codes = {failure.exitcode for failure in failed.failures.values()}
        ranks = ", ".join(str(rank) for rank in sorted(failed.failures))
        print(f"cotrain: rank {ranks} failed; what it said stands above.", file=sys.stderr)
        raise SystemExit(min((code for code in codes if code > 0), default=1)) from None
