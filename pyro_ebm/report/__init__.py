"""A run as one page, for people: what it says, whether it can be trusted, and what was run."""

from .info import info as info
from .merge import merge as merge
from .read import BadInput as BadInput
from .report import write_report as write_report
