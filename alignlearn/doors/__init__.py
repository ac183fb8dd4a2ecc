"""Doors for models of other libraries: each gives an unfitted `PretrainedModel`, one file each.

The other library is imported when its door is opened, or not at all: what counts is how a model is
called. A network is neither copied nor changed.
"""

from alignlearn.doors.azula import from_azula
from alignlearn.doors.diffusers import from_diffusers
from alignlearn.doors.edm import from_edm
from alignlearn.doors.lucidrains import from_lucidrains
from alignlearn.doors.programs import from_exported, from_torchscript
from alignlearn.doors.score_sde import from_score_sde
from alignlearn.doors.torchcfm import from_torchcfm

__all__ = [
    "from_azula",
    "from_diffusers",
    "from_edm",
    "from_exported",
    "from_lucidrains",
    "from_score_sde",
    "from_torchcfm",
    "from_torchscript",
]
