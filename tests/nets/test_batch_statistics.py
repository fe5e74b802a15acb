import torch
from torch import nn

from cotrain.nets.batch_statistics import statistics_kept


def test_normalizes_by_the_batch_and_keeps_the_means():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=None))
    x = torch.randn(16, 3) + 5
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with statistics_kept(net):
        kept = net(x)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    torch.testing.assert_close(kept, net(x))
    assert not torch.equal(net.state_dict()["0.running_mean"], before["0.running_mean"])


def test_layers_without_means_stay_without():
    net = nn.BatchNorm1d(3, track_running_stats=False)
    with statistics_kept(net):
        net(torch.randn(4, 3))
    assert not net.track_running_stats
