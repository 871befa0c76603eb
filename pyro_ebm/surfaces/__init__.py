"""log Z as a function of an energy's parameters: exact from a list, or estimated over a box."""

from .build import log_normalizer_surface as log_normalizer_surface
from .counted import CountedSurface as CountedSurface
from .listed import ListedLogNormalizer as ListedLogNormalizer
from .listed import listed_log_normalizer as listed_log_normalizer
from .surface import LogNormalizerSurface as LogNormalizerSurface
