"""What one rank can measure of its machine in a few seconds: products, all-reduce, disk, clock, memory, versions."""

import os
import platform
import shutil
import socket
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

MIB = 1 << 20


def rank_facts(folder: Path, seconds: float = 1.0) -> dict[str, Any]:
    """Everything about this rank, as plain values; every rank of the process group calls it together.

    Keys end in their unit; rates are per second. `disk_error` says why the folder could not be written to.

    Args:
        folder: where the run will write.
        seconds: for the products, and about as long for each of all-reduce and disk.
    """
    import torch
    import torch.distributed as dist

    from cotrain.watch.flops import product_seconds

    device = _device()
    dist.barrier()  # ranks come at their own pace; from here to the next barrier all see the same time pass
    wall, monotonic = time.time(), time.monotonic()
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    times = sorted(product_seconds(device, seconds, size, dtype))
    facts = {
        "rank": dist.get_rank(),
        "host": socket.gethostname(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {_threads()}",
        "products_flops": 2 * size**3 / times[len(times) // 4],  # the slow ones were disturbed by something else
        **all_reduce(_reducing(), seconds),
        **disk(folder, 32 * MIB, seconds),
        **memory(),
        "versions": versions(),
    }
    dist.barrier()
    between = time.monotonic() - monotonic
    return {**facts, "between_barriers_s": between, "wall_moved_s": (time.time() - wall) - between}


def _threads() -> str:
    import torch

    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''}"


def _device() -> Any:
    """This rank's GPU where there is one for it."""
    import torch

    local = int(os.environ.get("LOCAL_RANK", 0))
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    return torch.device("cpu")


def _reducing() -> Any:
    import torch
    import torch.distributed as dist

    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def all_reduce(device: Any, seconds: float = 1.0) -> dict[str, float]:
    """Latency of an all-reduce of one number, and bus bandwidth of one of 16 MiB: 2 (n - 1) / n x bytes / time."""
    import torch
    import torch.distributed as dist

    def timed(tensor: Any) -> float:
        start = time.perf_counter()
        dist.all_reduce(tensor)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    one, large = torch.zeros(1, device=device), torch.zeros(16 * MIB // 4, device=device)
    timed(one)  # connections are made at the first
    latency = median(timed(one) for _ in range(50))
    # As many as fit the time of the slowest rank: all ranks must do equally many.
    longest = torch.tensor([timed(large)], device=device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    count = min(50, max(3, int(seconds / longest.item())))
    ranks = dist.get_world_size()
    volume = 2 * (ranks - 1) / ranks * large.numel() * 4
    return {
        "all_reduce_latency_s": latency,
        "all_reduce_bytes": volume / median(timed(large) for _ in range(count)),
    }


def disk(folder: Path, size: int = 32 * MIB, seconds: float = 1.0) -> dict[str, Any]:
    """Rates of writing a file with fsync and of reading it back, and what is free; why not, where it cannot be done.

    Random bytes, as a file system may squeeze others; of at most `size` bytes as many as fit the time. The reading asks
    the system to forget the file first, which it need not do.
    """
    chunk = os.urandom(min(size, 4 * MIB))
    try:
        free = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder) as file:
            start, written = time.perf_counter(), 0
            while written < size and (not written or time.perf_counter() - start < seconds):
                written += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            writing = time.perf_counter() - start
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            start = time.perf_counter()
            while file.read(4 * MIB):
                pass
            reading = time.perf_counter() - start
    except OSError as error:
        return {"disk_error": f"{error.strerror or error} ({folder})"}
    return {"disk_write_bytes": written / writing, "disk_read_bytes": written / reading, "disk_free_bytes": free}


def memory() -> dict[str, int]:
    """Bytes of memory in all and to be had, within the limit of the container if there is one; empty where the system
    does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        total, free = found["MemTotal"], found["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):
        return {}
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, free = min(total, limit), min(free, max(0, limit - used))
    except (OSError, ValueError):  # no container, or "max"
        pass
    return {"memory_bytes": total, "memory_free_bytes": free}


def versions() -> dict[str, str]:
    """What must be the same on every rank."""
    import numpy
    import torch

    from cotrain import __version__

    return {
        "cotrain": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
