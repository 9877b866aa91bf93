"""One file per architecture; experts, gates and towers beside them."""

from mtlsearch.models.base import MultiTaskModel
from mtlsearch.models.build import build_model
from mtlsearch.models.inputs import Inputs, InputSpec

__all__ = ["InputSpec", "Inputs", "MultiTaskModel", "build_model"]
