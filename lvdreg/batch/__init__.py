"""Register many inputs: each result in a folder of its own, failures written down, the rest carried on."""

from lvdreg.batch.inputs import expand_inputs, result_names
from lvdreg.batch.run import Listener, Result, register_many
from lvdreg.batch.summary import JOURNAL, SUMMARY, Outcome, read_summary, write_summary
from lvdreg.batch.together import Together
from lvdreg.photo.model import SUFFIXES as PHOTO_SUFFIXES

__all__ = [
    "JOURNAL", "PHOTO_SUFFIXES", "SUMMARY", "Listener", "Outcome", "Result", "Together", "expand_inputs",
    "read_summary", "register_many", "result_names", "write_summary",
]  # fmt: skip
