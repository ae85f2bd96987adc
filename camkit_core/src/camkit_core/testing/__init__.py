"""Conformance checks for methods, targets, reshapes, metrics and controls of any package.

    from camkit_core.testing import parametrize_checks

    @parametrize_checks([MyCAM()])
    def test_my_cam(check):
        check()

Needs nothing but camkit-core (and pytest for `parametrize_checks`).
"""

from __future__ import annotations

from camkit_core.testing.kinds.controls import check_control
from camkit_core.testing.kinds.metrics import check_metric
from camkit_core.testing.kinds.reshapes import check_reshape
from camkit_core.testing.kinds.targets import check_target
from camkit_core.testing.parametrize import parametrize_checks
from camkit_core.testing.report import ConformanceError, Report, Row
from camkit_core.testing.run import check_method
from camkit_core.testing.subject import Subject, explainer

__all__ = [
    "ConformanceError",
    "Report",
    "Row",
    "Subject",
    "check_control",
    "check_method",
    "check_metric",
    "check_reshape",
    "check_target",
    "explainer",
    "parametrize_checks",
]
