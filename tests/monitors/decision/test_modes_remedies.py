"""Which failure a quantity's fall is remedied as."""

import pytest

from ouroloop.monitors.decision.guarded import GUARDED, QuantityId
from ouroloop.monitors.decision.modes import REMEDIED_AS, remedied_as
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.names import FailureMode


@pytest.mark.parametrize("quantity", [q.id for q in GUARDED])
def test_every_built_in_quantity_calls_for_a_remedy(quantity):
    assert remedied_as(StreamId(quantity)) is REMEDIED_AS[quantity]


def test_a_criterion_is_remedied_as_its_quantity_and_others_have_no_remedy_of_their_own():
    assert remedied_as(StreamId(f"{QuantityId.APPROVED}/harmless", 1)) is FailureMode.DRIFT
    assert remedied_as(StreamId("mine")) is None and remedied_as(None) is None
