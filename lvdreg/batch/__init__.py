"""Register many inputs: each result in a folder of its own, failures written down, the rest carried on."""

from lvdreg.batch.crew import Limits
from lvdreg.batch.inputs import expand_inputs, result_names
from lvdreg.batch.lists import read_list
from lvdreg.batch.one import Result
from lvdreg.batch.run import Engine, Listener, register_many
from lvdreg.batch.table import TABLE, Outcome, read_results, write_parquet, write_results
from lvdreg.batch.together import Together
from lvdreg.photo.model import SUFFIXES as PHOTO_SUFFIXES

__all__ = [
    "PHOTO_SUFFIXES", "TABLE", "Engine", "Limits", "Listener", "Outcome", "Result", "Together", "expand_inputs",
    "read_list", "read_results", "register_many", "result_names", "write_parquet", "write_results",
]  # fmt: skip
