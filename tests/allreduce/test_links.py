"""Counts, late messages, and failures by name; what is sent is kept in a list."""

import threading

import pytest
import torch

from cotrain.allreduce.links import Links, PeerLost, SimulatedLinks

NODES = {0: "west", 1: "west", 2: "east"}


class Kept(Links):
    """Keeps what would be sent."""

    def __init__(self, group, nodes):
        super().__init__(group, nodes)
        self.here, self.left, self.gone = "west", [], threading.Event()

    def _start(self, tensor, to, tag):
        if tag == 13:
            raise RuntimeError("Connection closed by peer")
        self.left.append((to, tag))
        if tag == 99:
            self.gone.set()
        return Done()


class Done:
    def wait(self):
        return True


class LateKept(SimulatedLinks, Kept):
    """The same, late."""


def test_only_what_goes_to_other_nodes_is_counted():
    links = Kept(None, NODES)
    links.send(torch.zeros(5), 1, 0)
    links.send(torch.zeros(5), 2, 1)
    links.send(torch.zeros(3, dtype=torch.bfloat16), 2, 2)
    assert (links.sent_bytes, links.sent_messages) == (26, 2)
    assert links.left == [(1, 0), (2, 1), (2, 2)]


def test_late_messages_keep_their_order_and_local_ones_do_not_wait():
    links = LateKept(None, NODES, latency=0.05)
    messages = [links.send(torch.zeros(1), 2, tag) for tag in (3, 4, 5)]
    links.send(torch.zeros(1), 1, 0)
    messages.append(links.send(torch.zeros(1), 2, 99))
    assert links.left[0] == (1, 0)
    for message in messages:
        message.wait()
    assert links.left == [(1, 0), (2, 3), (2, 4), (2, 5), (2, 99)]
    assert links.sent_messages == 4
    links.close()


def test_a_message_does_not_set_out_early():
    links = LateKept(None, NODES, latency=1000.0)
    links.send(torch.zeros(1), 2, 99)
    assert not links.gone.wait(0.05)
    links.close()


def test_a_failure_names_the_node_when_it_is_waited_for():
    links = LateKept(None, NODES, latency=0.01)
    with pytest.raises(PeerLost, match=r"Lost node 'east' \(rank 2\) .* Connection closed"):
        links.send(torch.zeros(1), 2, 13).wait()
    links.close()
