import torch
import torch.nn.functional as F
from torch import nn

from cotrain.learner import Learner
from cotrain.losses.mixing import mixup
from cotrain.methods.semi.supervised import Supervised


def step(method, x, y, net=None):
    memory = {"step": 0, "generator": torch.Generator().manual_seed(0)}
    return method.step({"model": Learner(net or nn.Identity())}, {"labelled": {"x": x, "y": y}}, memory)["model"]


def test_is_cross_entropy():
    x, y = torch.randn(6, 3), torch.arange(6) % 3
    torch.testing.assert_close(step(Supervised(), x, y), F.cross_entropy(x, y))
    torch.testing.assert_close(step(Supervised(mixup=1e-7), x, y), F.cross_entropy(x, y))


def test_mixup_mixes_inputs_and_labels_alike():
    x, y = torch.randn(6, 3), torch.arange(6) % 3
    mixed, target = mixup(0.4, torch.Generator().manual_seed(0), x, F.one_hot(y, 3).float())
    torch.testing.assert_close(step(Supervised(mixup=0.4), x, y), F.cross_entropy(mixed, target))
