"""Whether a scan shows a hand where a person was asked for, or a person where a hand was.

Only where the size is odd or the scan is explained badly are the networks of the other kind asked; they must explain it
clearly better.
"""

from lvdreg.base.shapes import Points
from lvdreg.descent.boxes import UPS, Size, body_boxes
from lvdreg.descent.hand_boxes import hand_pose_hypotheses
from lvdreg.descent.scan import Explained, Views, explain, view_rotations
from lvdreg.descent.weights import hand_detector_weights, voxel_weights
from lvdreg.pipeline.config import HAND, RegisterConfig

MORE_ALIKE = 0.5
"""Views of the other kind must disagree less than so many times those of the kind asked for. Of three people and three
whole hands the right network's views disagreed by 0.006 to 0.011, the wrong one's by 0.024 to 0.125 (LOG.md, "Persons
and hands"); the distances to the scan tell less, 0.37 to 0.87 times those of the wrong one."""
RARE_UNITS = ("none", "dm", "inch")
PERSON = RegisterConfig()


def another_kind(points: Points, found: Views, size: Size, is_hand: bool, device: str) -> str | None:
    """Return "person" or "hand" where a scan shows that rather than what was asked for.

    Args:
        points: (P, 3) of the scan, scan frame.
        found: What the networks of the kind that was asked for say.
        size: The unit and size of that.
        is_hand: Whether a hand was asked for.
        device: Where the networks run.
    """
    assert found.explained is not None
    is_odd = size.unit in RARE_UNITS or size.is_guess or size.body_scale != 1
    if not is_odd and (is_hand or found.explained.score < PERSON.views.doubtful_score):
        return None
    other = _as_person(points, device) if is_hand else _as_hand(points, device)
    config = PERSON.views if is_hand else HAND.views
    own = found.explained
    is_surer = other.spread < min(config.second_hand_spread, MORE_ALIKE * own.spread)
    if not is_surer or other.distance > own.distance:
        return None
    return "person" if is_hand else "hand"


def _as_person(points: Points, device: str) -> Explained:
    net = voxel_weights("anny", device).net
    boxes = body_boxes(points, UPS, net.config.voxel.num_points)
    return explain(net, points, boxes, view_rotations(PERSON.views), PERSON.views, PERSON.descent)[0]


def _as_hand(points: Points, device: str) -> Explained:
    net, detector = voxel_weights("anny-hand", device).net, hand_detector_weights("anny-hand", device).net
    boxes = hand_pose_hypotheses(detector, points, "auto", HAND.views, HAND.clean)
    return explain(net, points, boxes, view_rotations(HAND.views), HAND.views, HAND.descent)[0]
