"""Says how often a run was stopped: a number that must not shrink unnoticed."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    points = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "store crash points"
    ]
    if points:
        terminalreporter.write_line(
            f"store: stopped at {sum(points)} points in {len(points)} explorations, "
            "no promise broken"
        )
