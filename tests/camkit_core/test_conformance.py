"""The conformance kit's own interface: reports, expected failures, pytest ids, no traces."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
import torch

from camkit_core import ChannelsFirst, Claim, ClassTarget, OptionError, UnknownNameError
from camkit_core.testing import (
    ConformanceError,
    check_method,
    check_reshape,
    check_target,
    explainer,
    parametrize_checks,
)
from camkit_core.testing.checks import METHOD_CHECKS
from camkit_core.testing.mutants.engines import Hooks
from camkit_core.testing.mutants.methods import GradCAM, HalfCell
from camkit_core.testing.mutants.promises import Overclaimed


class Shifted(HalfCell):
    """Right but for half a cell; its own name keeps it from being held to Grad-CAM's equation."""

    name: ClassVar[str] = "shifted"


FAULTS = {"flip": "half a cell off", "gap_is_cam": "half a cell off"}


# --- reports ---------------------------------------------------------------------------------


def test_a_class_an_instance_and_a_subject_are_checked_alike():
    reports = [check_method(method) for method in (GradCAM, GradCAM())]
    assert [row.status for row in reports[0].rows] == [row.status for row in reports[1].rows]
    assert reports[0].ok
    assert reports[0].count("passed") >= 50
    assert {row.check for row in reports[0].rows if row.status == "not applicable"} == {
        "chunks",
        "budget",
        "declared_runs",
        "missing_view",
    }


def test_a_failure_raises_with_the_table_or_is_reported():
    with pytest.raises(ConformanceError) as raised:
        check_method(Shifted())
    report = check_method(Shifted(), on_fail="report")
    assert not report.ok
    assert [row.check for row in report.failed] == ["gap_is_cam", "flip"]
    for text in (str(raised.value), str(report)):
        assert "method shifted: 2 failed" in text
        assert "mirrored along axis -1" in text
    assert json.loads(json.dumps(report.as_dict()))["ok"] is False


def test_claims_can_be_given_instead_of_the_methods_own():
    assert not check_method(Overclaimed(), on_fail="report").ok
    assert check_method(Overclaimed(), claims=GradCAM.claims).ok
    own = explainer("x", Hooks(), claims=())
    with pytest.raises(OptionError, match="already has its own"):
        check_method(own, claims=[Claim.DETERMINISTIC])


def test_the_full_tier_has_more_checks():
    fast, full = METHOD_CHECKS.of_tier("fast"), METHOD_CHECKS.of_tier("full")
    assert {check.name for check in fast} < {check.name for check in full}
    names = {check.name for check in full} - {check.name for check in fast}
    assert {"threads", "sizes", "half_precision", "randomized_weights", "monte_carlo"} <= names
    with pytest.raises(OptionError, match="'fast' or 'full'"):
        check_method(GradCAM(), tier="slow")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="'raise' or 'report'"):
        check_method(GradCAM(), on_fail="print")  # type: ignore[arg-type]


def test_a_right_method_passes_the_full_tier():
    report = check_method(GradCAM(), tier="full")
    assert {row.check for row in report.rows} == set(METHOD_CHECKS.checks)


def test_every_check_says_what_holds():
    for check in METHOD_CHECKS.checks.values():
        assert 20 < len(check.about) < 110, check.name


def test_things_that_are_no_method_are_refused():
    with pytest.raises(OptionError, match="a method is a name"):
        check_method(3)
    with pytest.raises(UnknownNameError, match="gradcan"):
        check_method("gradcan")


# --- expected failures -----------------------------------------------------------------------


def test_expected_failures_are_reported_with_their_reason():
    report = check_method(Shifted(), expected_failures=FAULTS)
    assert report.ok
    assert report.count("expected") == 2
    assert "half a cell off (image and kernels" in str(report).replace("\n      ", " ")


def test_an_expected_failure_that_passes_is_a_failure():
    report = check_method(GradCAM(), expected_failures={"flip": "never"}, on_fail="report")
    (row,) = report.failed
    assert row.check == "flip"
    assert "but it passed: remove it" in row.message


def test_an_expected_failure_that_does_not_apply_is_a_failure():
    report = check_method(GradCAM(), expected_failures={"chunks": "never"}, on_fail="report")
    (row,) = report.failed
    assert "does not apply" in row.message


def test_expected_failures_need_a_known_name_and_a_reason():
    with pytest.raises(OptionError, match=r"no method check 'flop'.*did you mean 'flip'"):
        check_method(GradCAM(), expected_failures={"flop": "why"})
    with pytest.raises(OptionError, match="is empty"):
        check_method(GradCAM(), expected_failures={"flip": " "})


# --- pytest ----------------------------------------------------------------------------------


@parametrize_checks(
    [Shifted(), GradCAM, ClassTarget(), ChannelsFirst()],
    {f"shifted/{check}": reason for check, reason in FAULTS.items()},
)
def test_decorated(check):
    check()


def cases(*arguments, **words):
    """The pytest parameters of a decorator."""

    @parametrize_checks(*arguments, **words)
    def decorated(check):
        check()

    (mark,) = decorated.pytestmark
    return {case.id: case for case in mark.args[1]}


def test_one_id_per_object_and_check_that_applies():
    found = cases([GradCAM(), ClassTarget()])
    assert "gradcam-flip" in found
    assert "gradcam-chunks" not in found
    assert "ClassTarget-frozen" in found
    assert len(found) == len(METHOD_CHECKS.of_tier("fast")) - 4 + len(
        check_target(ClassTarget()).rows
    )
    assert set(found) < set(cases([GradCAM(), ClassTarget()], tier="full"))


def test_expected_failures_become_strict_marks():
    found = cases([Shifted(), GradCAM()], {"shifted/flip": "half a cell off"})
    (mark,) = found["shifted-flip"].marks
    assert mark.name == "xfail"
    assert mark.kwargs["strict"] is True
    assert mark.kwargs["reason"] == "half a cell off"
    assert not found["gradcam-flip"].marks
    everywhere = cases([Shifted(), GradCAM()], {"flip": "all of them"})
    assert everywhere["gradcam-flip"].marks
    with pytest.raises(ConformanceError, match="shifted, flip: image and kernels"):
        found["shifted-flip"].values[0]()


def test_expected_failures_of_nothing_are_refused():
    with pytest.raises(OptionError, match="no check 'gradcam/flop' applies"):
        cases([GradCAM()], {"gradcam/flop": "why"})
    with pytest.raises(OptionError, match="is empty"):
        cases([GradCAM()], {"gradcam/flip": ""})
    with pytest.raises(OptionError, match="no method, target, reshape"):
        cases([3])


def test_without_pytest_the_rest_works(fresh):
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from camkit_core import CapabilityError\n"
        "from camkit_core.testing import check_method, parametrize_checks\n"
        "from camkit_core.testing.mutants.methods import GradCAM\n"
        "assert check_method(GradCAM()).ok\n"
        "try:\n    parametrize_checks([GradCAM()])\n"
        "except CapabilityError as error:\n    print(error)\n"
    )
    assert "pip install pytest" in fresh(code)


def test_it_needs_no_numpy(fresh):
    code = (
        "import sys, warnings; sys.modules['numpy'] = None\n"
        "warnings.filterwarnings('ignore', message='Failed to initialize NumPy')\n"
        "from camkit_core.testing import check_method, check_target\n"
        "from camkit_core.testing.mutants.methods import GradCAM\n"
        "from camkit_core import ClassTarget\n"
        "check_target(ClassTarget()); print(check_method(GradCAM()).ok)\n"
    )
    assert fresh(code) == "True"


# --- no traces -------------------------------------------------------------------------------


def test_the_kit_leaves_the_process_as_it_was():
    random, threads = torch.random.get_rng_state(), torch.get_num_threads()
    check_method(GradCAM())
    check_method(Shifted(), on_fail="report")
    check_reshape(ChannelsFirst())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
