"""A step as a child process of the Airflow worker (MLOPS_RUNTIME=local)."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator

from include.code_version import ROOT
from include.command import STARTED_BY
from include.pipeline.flags import argv
from include.pipeline.grants import GRANTS, NOTHING
from include.pipeline.outcome import announce, read_answer, settle
from include.settings import settings


class LocalStep(BaseOperator):
    """Run ``python -m module --flag value …`` and return the answer it wrote.

    :param module: the step, ``include.<room>.<step>``
    :param flags: its flags; templates and other tasks' outputs are filled in
    :param grant: name of what the step may reach; here only which PGSERVICEFILE it gets
    :param each: the flag in which the instances of a mapped task differ
    """

    template_fields: Sequence[str] = ("flags", "each")
    ui_color = "#e8f4ea"

    def __init__(
        self,
        *,
        module: str,
        flags: dict[str, Any],
        grant: str = NOTHING,
        each: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.module = module
        self.flags = flags
        self.each = each
        self.grant = grant
        self.process = SubprocessHook()

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the step in a session of its own, its log lines in the task's log."""
        # No expected version, as a pod has it: DAG and step are of one checkout, and a commit to it stops nothing.
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            STARTED_BY: str(os.getpid()),
        }
        if databases := GRANTS[self.grant].databases:
            environment["PGSERVICEFILE"] = str(Path(settings().local_services) / f"{databases}.conf")
        with tempfile.TemporaryDirectory(prefix="step-") as folder:
            result = Path(folder) / "result.json"
            command = [sys.executable, *argv(self.module, {**self.flags, **(self.each or {})}), "--result", str(result)]
            done = self.process.run_command(command, env=environment, cwd=str(ROOT))
            answer = read_answer(result)
        if answer and done.exit_code:
            context["ti"].xcom_push(key="return_value", value=answer)
        settle(self.module, done.exit_code, answer)
        announce(context, answer)
        return answer

    def on_kill(self) -> None:
        """Airflow ends the task: end the step and whatever it started."""
        self.process.send_sigterm()
