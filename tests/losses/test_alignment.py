import torch

from cotrain.losses.alignment import align, remember, uniform


def test_by_hand():
    guess = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    aligned = align(guess, torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2]), floor=0.0)
    # the odds are multiplied by (0.5 / 0.8) / (0.5 / 0.2) = 1 / 4: 1 -> 1 / 4, 9 -> 9 / 4
    torch.testing.assert_close(aligned, torch.tensor([[1 / 5, 4 / 5], [9 / 13, 4 / 13]]))


def test_nothing_to_align_changes_nothing():
    guess, prior = torch.rand(5, 4).softmax(-1), torch.tensor([0.1, 0.2, 0.3, 0.4])
    torch.testing.assert_close(align(guess, prior, prior), guess)


def test_a_class_without_labelled_examples_stays_finite():
    aligned = align(torch.tensor([[0.0, 1.0], [0.5, 0.5]]), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert aligned.isfinite().all()
    torch.testing.assert_close(aligned.sum(1), torch.ones(2))


def test_memory_is_the_mean_of_the_last_batches():
    recent = uniform(3, 2)
    torch.testing.assert_close(recent.mean(0), torch.tensor([0.5, 0.5]))
    batches = [torch.tensor([p, 1 - p]) for p in (0.1, 0.2, 0.3, 0.4, 0.8)]
    for step, mean in enumerate(batches):
        remember(recent, mean, step)
    torch.testing.assert_close(recent.mean(0), torch.stack(batches[2:]).mean(0))
