import torch
import torch.nn.functional as F
from torch import nn

from cotrain.learner import Learner
from cotrain.methods.language.next_token import NextToken


class Repeats(nn.Module):
    """Guesses that the next id is the last one: logit ln 3 for it, 0 for the three others."""

    def forward(self, ids):
        self.seen = ids
        return F.one_hot(ids, 4) * torch.tensor(3.0).log()


def test_loss_by_hand():
    net = Repeats()
    ids = torch.tensor([[0, 0, 1], [2, 2, 2]])
    loss = NextToken().step({"model": Learner(net)}, {"text": {"ids": ids}}, {})["model"]
    # The guess has probability 3/6 and is right three times; the other target has 1/6.
    torch.testing.assert_close(loss, (3 * torch.tensor(2.0).log() + torch.tensor(6.0).log()) / 4)
    assert torch.equal(net.seen, ids[:, :-1])
