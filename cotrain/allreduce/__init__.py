"""All-reduce in two levels, inside a node and across nodes, and the communication of gradients by name."""
