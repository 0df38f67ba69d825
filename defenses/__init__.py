"""One small file per defense: it sees a `DefenderView` and nothing else.

May import `fixtures`; never `attacks`, `bench` or a sibling defense.
"""

from defenses.base import (
    DEFENSES,
    Certificate,
    Certified,
    Defense,
    DefenseInfo,
    InputDetector,
    ModelDetector,
    ModelVerdict,
    Repair,
    SampleDetector,
    SampleVerdict,
    Training,
    defense,
)
from defenses.view import DefenderView

__all__ = [
    "DEFENSES",
    "Certificate",
    "Certified",
    "DefenderView",
    "Defense",
    "DefenseInfo",
    "InputDetector",
    "ModelDetector",
    "ModelVerdict",
    "Repair",
    "SampleDetector",
    "SampleVerdict",
    "Training",
    "defense",
]
