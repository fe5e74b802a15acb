"""Devices, and the means that are the same on one process and on many."""

import pytest
import torch

from cotrain import place
from cotrain.errors import InputError


def test_move_goes_into_dicts_and_leaves_the_rest():
    tree = {"a": torch.zeros(2), "b": {"c": torch.ones(1), "d": 3}, "e": "text"}
    moved = place.move(tree, torch.device("meta"))
    assert moved["a"].device.type == moved["b"]["c"].device.type == "meta"
    assert moved["b"]["d"] == 3
    assert moved["e"] == "text"


def test_move_to_where_a_tensor_is_copies_nothing():
    tensor = torch.zeros(2)
    assert place.move(tensor, torch.device("cpu")) is tensor


def test_auto_is_the_gpu_if_there_is_one():
    assert place.device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert place.device_of("cpu").type == "cpu"


def test_auto_is_the_cpu_where_processes_are_more_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert place.device_of("auto") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.warns(UserWarning, match=r"More processes than GPUs \(2\) on this machine"):
        assert place.device_of("auto") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(InputError, match="asks for GPU 1 for process 1 of this machine; there are 1"):
        place.device_of("cuda")


def test_global_mean_in_one_process_is_the_mean_without_gradient():
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]], requires_grad=True)
    mean = place.global_mean(values)
    assert mean.tolist() == [2.0, 4.0]
    assert not mean.requires_grad


def test_global_mean_is_fp32_at_least():
    assert place.global_mean(torch.ones(3, 2, dtype=torch.bfloat16)).dtype == torch.float32
    assert place.global_mean(torch.ones(3, 2, dtype=torch.float64)).dtype == torch.float64


def test_masked_mean_by_hand():
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    mean = place.masked_mean(values, torch.tensor([True, False, True]))
    assert mean.item() == 3.5
    mean.backward()
    assert values.grad.tolist() == [0.5, 0.0, 0.5]


def test_masked_mean_of_nothing_is_zero_and_connected():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    mean = place.masked_mean(values, torch.tensor([False, False]))
    mean.backward()
    assert mean.item() == 0.0
    assert values.grad.tolist() == [0.0, 0.0]


def test_one_process_has_no_process_group():
    assert place.ranks() == place.processes() == 1
    assert not torch.distributed.is_initialized()
    assert (place.joined(), place.number(), place.first()) == (False, 0, True)


@pytest.mark.parametrize("said", ["soon", "0", "-3", "nan", "inf"])
def test_a_timeout_that_is_none(monkeypatch, said):
    monkeypatch.setenv("COTRAIN_TIMEOUT", said)
    with pytest.raises(InputError, match=f"COTRAIN_TIMEOUT is a positive number of seconds, not '{said}'"):
        place.timeout()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_move_to_the_gpu_and_back():
    there = place.move({"x": torch.arange(3)}, torch.device("cuda"))
    assert place.move(there, torch.device("cpu"))["x"].tolist() == [0, 1, 2]
