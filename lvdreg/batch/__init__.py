"""Register many inputs: each result in a folder of its own, failures written down, the rest carried on."""

from lvdreg.batch.crew import Limits
from lvdreg.batch.inputs import expand_inputs, find_sources, result_names
from lvdreg.batch.lists import read_list
from lvdreg.batch.one import Result
from lvdreg.batch.remote import Remote, Source, is_remote
from lvdreg.batch.run import Engine, Listener, register_many
from lvdreg.batch.store import Folder, store_of
from lvdreg.batch.table import TABLE, Outcome, read_results, write_results
from lvdreg.batch.together import Together
from lvdreg.photo.model import SUFFIXES as PHOTO_SUFFIXES

__all__ = [
    "PHOTO_SUFFIXES", "TABLE", "Engine", "Folder", "Limits", "Listener", "Outcome", "Remote", "Result", "Source",
    "Together", "expand_inputs", "find_sources", "is_remote", "read_list", "read_results", "register_many",
    "result_names", "store_of", "write_results",
]  # fmt: skip
