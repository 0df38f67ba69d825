"""One small file per defense: it sees a `DefenderView` and nothing else.

May import `fixtures`; never `attacks`, `bench` or a sibling defense.
"""

from defenses.base import (
    DEFENSES,
    DefenderView,
    Defense,
    DefenseInfo,
    InputDetector,
    ModelDetector,
    ModelVerdict,
    Repair,
    SampleDetector,
    SampleVerdict,
    defense,
    lacks,
)

__all__ = [
    "DEFENSES",
    "DefenderView",
    "Defense",
    "DefenseInfo",
    "InputDetector",
    "ModelDetector",
    "ModelVerdict",
    "Repair",
    "SampleDetector",
    "SampleVerdict",
    "defense",
    "lacks",
]
