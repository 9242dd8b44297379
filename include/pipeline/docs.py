"""Writes docs/dags.md from the DAGs themselves: `python -m include.pipeline.docs`; `--check` fails when it is stale."""

import argparse
import sys
from pathlib import Path
from typing import Any

from include.code_version import ROOT

PAGE = ROOT / "docs" / "dags.md"
HEAD = """# The pipelines

Written by `make docs` from the DAG files; change those, not this page. `make lint` fails when it is stale.

"""


def page() -> str:
    """The whole page, one section for each DAG."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"))
    if bag.import_errors or not bag.dags:
        raise SystemExit(f"the DAGs do not import: {bag.import_errors or 'none found'}")
    dags = [bag.dags[name] for name in sorted(bag.dags)]
    table = ["| DAG | schedule (UTC) | tags | announces |", "|---|---|---|---|"]
    table += [f"| [{dag.dag_id}](#{dag.dag_id}) | {_schedule(dag)} | {_tags(dag)} | {_outlets(dag)} |" for dag in dags]
    return HEAD + "\n".join(table) + "\n\n" + "\n".join(_section(dag) for dag in dags)


def _section(dag: Any) -> str:
    lines = [f"## {dag.dag_id}", "", (dag.doc_md or "").strip(), "", "```mermaid", "graph LR"]
    for task in dag.topological_sort():
        shape = (
            f'{task.task_id}[["{task.task_id}, one each"]]'
            if task.is_mapped or task.get_closest_mapped_task_group()
            else f'{task.task_id}["{task.task_id}"]'
        )
        lines.append(f"  {shape}")
        lines += [f"  {task.task_id} --> {below}" for below in sorted(task.downstream_task_ids)]
    lines += ["```", ""]
    if dag.params:
        lines += ["| field of the form | default | what it is |", "|---|---|---|"]
    for name in dag.params:
        param = dag.params.get_param(name)
        about = ". ".join(part for part in (param.schema.get("title"), param.description) if part)
        lines.append(f"| `{name}` | `{param.value}` | {about} |")
    return "\n".join(lines) + "\n"


def _schedule(dag: Any) -> str:
    if isinstance(dag.schedule, str):
        return f"`{dag.schedule}`"
    return ", ".join(f"on asset `{asset.name}`" for asset in dag.schedule or []) or "by hand only"


def _tags(dag: Any) -> str:
    return ", ".join(sorted(dag.tags))


def _outlets(dag: Any) -> str:
    return ", ".join(f"`{asset.name}`" for task in dag.tasks for asset in task.outlets) or "-"


def main() -> None:
    """Write the page, or compare it with the one there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is stale")
    check = parser.parse_args().check
    new = page()
    if check and (not PAGE.exists() or PAGE.read_text() != new):
        sys.exit(f"{PAGE.relative_to(ROOT)} is stale: run `make docs` and commit it")
    if not check:
        Path(PAGE).write_text(new)


if __name__ == "__main__":
    main()
