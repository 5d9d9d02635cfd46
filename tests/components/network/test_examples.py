"""The order of the examples."""

from bnpipe.components.network.examples import epoch_order


def test_every_epoch_has_an_order_of_its_own():
    orders = [epoch_order(seed, epoch, 100) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 4
