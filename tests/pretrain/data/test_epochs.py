from fractions import Fraction

from pretrain.data.epochs import Epochs


def test_the_example_of_the_docstring():
    epochs = Epochs([10, 7], [Fraction(1), Fraction(1, 2)], 4)
    assert [epochs.reach(epoch) for epoch in range(3)] == [[(0, 10), (0, 3)], [(10, 20), (3, 7)], [(20, 30), (7, 10)]]
    assert (epochs.steps_per_epoch, epochs.pairs_per_epoch) == (4, 13.5)
    assert epochs.locate(6) == (1, 2)
    assert [epochs.pairs_before(step) for step in (0, 4, 6, 8)] == [0, 13, 21, 27]
