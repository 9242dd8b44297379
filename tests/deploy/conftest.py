"""The tools that judge rules and routing, as the servers would."""

import os
import shutil

import pytest


def program(package: str, name: str, *other_names: str) -> str:
    """Path of a program. CI must have it; elsewhere its tests are skipped, as no Python package brings it."""
    found = next(filter(None, map(shutil.which, (name, *other_names))), None)
    if found is None:
        said = f"{name} is not on PATH; on Debian and Ubuntu it comes with the package {package}"
        if os.environ.get("CI"):
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("prometheus", "promtool")


@pytest.fixture(scope="session")
def amtool() -> str:
    return program("prometheus-alertmanager", "amtool")


@pytest.fixture(scope="session")
def alertmanager() -> str:
    """Debian calls it by the name of its package, everybody else by its own."""
    return program("prometheus-alertmanager", "alertmanager", "prometheus-alertmanager")
