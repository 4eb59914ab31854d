"""Which stream of samples belongs to which body."""

from lvdreg.body.model import BodyModel
from lvdreg.synth.hand_scans import HandStream
from lvdreg.synth.scans import SynthStream


def stream_of(body: BodyModel) -> SynthStream | HandStream:
    """Return the endless synthetic scans of a body: of people, or of hands."""
    return HandStream(body) if body.data.is_hand else SynthStream(body)
