"""Buckets of gradients on one process: what goes where; between ranks it is tested in test_ranks.py."""

import pytest
import torch
from torch import nn

from cotrain import average
from cotrain.average import GradientMean, average_set


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))


def echo(bucket):
    """A hook that sends nothing: one rank's mean is its own."""
    done = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


def test_every_parameter_has_its_place_last_layers_first(net, monkeypatch):
    monkeypatch.setattr(average, "BUCKET", 100)
    mean = GradientMean(list(net.parameters()), echo)
    members = [parameter for bucket in mean.buckets for parameter in bucket.parameters()]
    assert [id(p) for p in members] == [id(p) for p in reversed(list(net.parameters()))]
    assert len(mean.buckets) > 1
    for bucket in mean.buckets:
        assert [view.shape for view in bucket.gradients()] == [p.shape for p in bucket.parameters()]
        assert bucket.buffer().numel() == sum(p.numel() for p in bucket.parameters())
    assert [bucket.is_last() for bucket in mean.buckets] == [False] * (len(mean.buckets) - 1) + [True]


def test_one_bucket_has_one_dtype(net):
    net[1].double()
    mean = GradientMean(list(net.parameters()), echo)
    for bucket in mean.buckets:
        assert {p.dtype for p in bucket.parameters()} == {bucket.buffer().dtype}


def test_gradients_come_back_as_the_hook_left_them(net):
    def doubled(bucket):
        bucket.buffer().mul_(2)
        return echo(bucket)

    mean = GradientMean(list(net.parameters()), doubled)
    x = torch.randn(5, 3)
    net(x).sum().backward()
    wanted = [2 * p.grad for p in net.parameters()]
    for parameter in net.parameters():
        parameter.grad = None
    mean.arm()
    net(x).sum().backward()
    mean.send()
    mean.wait()
    for parameter, value in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, value)


def test_a_backward_before_it_is_armed_counts_and_is_not_sent(net):
    mean = GradientMean(list(net.parameters()), echo)
    net(torch.ones(1, 3)).sum().backward()
    assert mean.next == 0
    before = net[0].weight.grad.clone()
    mean.arm()
    net(torch.ones(1, 3)).sum().backward()
    mean.send()
    mean.wait()
    torch.testing.assert_close(net[0].weight.grad, 2 * before)


def test_what_no_rank_reached_stays_without_gradient(net):
    mean = GradientMean(list(net.parameters()), echo)
    mean.arm()
    net[2](torch.ones(1, 4)).sum().backward()
    mean.send()
    mean.wait()
    assert net[0].weight.grad is None
    assert net[2].weight.grad is not None


def test_a_set_apart_keeps_its_gaps(net):
    parameters = list(net.parameters())
    gradients = [torch.full_like(p, float(i)) if i % 2 else None for i, p in enumerate(parameters)]
    found = average_set(gradients, parameters)
    for given, mean in zip(gradients, found, strict=True):
        assert (given is None) == (mean is None)
        if given is not None:
            torch.testing.assert_close(mean, given)
