"""Threads: learners, views and parts of the rows run side by side, each on one thread.

Threads within threads wait for each other, and those of OpenMP wait for the slowest at every small step: where another
program wanted one of the two cores, patches of 800 images took 50 s on two threads of OpenMP and 2 s on one.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import ThreadpoolController


def workers(jobs: int) -> ThreadPoolExecutor:
    """A pool of so many threads, in which OpenMP (torch, scikit-learn) starts no others.

    The limits of BLAS are the whole process's; whoever fills a pool with its work sets them.
    """
    libraries = ThreadpoolController().select(user_api="openmp")
    torch = sys.modules.get("torch")

    def begin() -> None:
        if torch is not None:
            torch.get_num_threads()  # at its first use in a thread torch sets a number of its own
        libraries.limit(limits=1)  # of this thread, and gone with it

    return ThreadPoolExecutor(jobs, initializer=begin)
