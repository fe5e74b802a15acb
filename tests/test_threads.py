import torch
from threadpoolctl import threadpool_info, threadpool_limits

from cotrain.threads import workers


def limits(api):
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == api]


def test_a_worker_s_libraries_start_no_other_threads():
    torch.set_num_threads(torch.get_num_threads())  # torch then asks it of every new thread
    with threadpool_limits(3):
        before = torch.get_num_threads(), limits("openmp"), limits("blas")
        with workers(2) as pool:
            inside = [pool.submit(lambda: (torch.get_num_threads(), *limits("openmp"))).result() for _ in range(4)]
        assert {number for found in inside for number in found} == {1}
        assert (torch.get_num_threads(), limits("openmp"), limits("blas")) == before  # the caller's stay


def test_a_worker_s_error_reaches_the_caller():
    with workers(1) as pool:
        future = pool.submit(lambda: 1 / 0)
    assert isinstance(future.exception(), ZeroDivisionError)
