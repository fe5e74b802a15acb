"""Threads: learners, views and parts of the rows run side by side, each on one thread.

Threads within threads wait for each other, and those of OpenMP wait for the slowest at every small step: where another
program wanted one of the two cores, patches of 800 images took 50 s on two threads of OpenMP and 2 s on one.
"""

from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import ThreadpoolController


def workers(jobs: int) -> ThreadPoolExecutor:
    """A pool of so many threads, in which OpenMP (torch, scikit-learn) starts no others.

    The limits of BLAS are the whole process's; whoever fills a pool with its work sets them.
    """
    libraries = ThreadpoolController().select(user_api="openmp")
    # OpenMP's limit is that of the thread which sets it, and ends with it.
    return ThreadPoolExecutor(jobs, initializer=lambda: libraries.limit(limits=1))
