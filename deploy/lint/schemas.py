"""JSON schemas of every kind: Kubernetes' own from a Python package, custom ones from the charts that bring them."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from deploy.lint.charts import KUBERNETES, Manifest, Refused, Tree, documents
from deploy.lint.tools import Missing, complaints, helm, program, run

# Kubernetes' OpenAPI as files, as its authors generate them; kept apart from requirements-dev.txt for its 70 MB.
PACKAGE = "kubernetes-validate==1.37.0"
FOLDER = f"kubernetes_validate/kubernetes-json-schema/v{KUBERNETES}-local-strict"
# Nothing that is pinned brings these definitions. Rendered and looked at by tests, but not checked against a schema.
WITHOUT_SCHEMA = ["SparkApplication"]


def of_kubernetes(tree: Tree) -> str:
    """Where kubeconform finds the schemas of built-in kinds."""
    target = tree.cache / f"kubernetes-{KUBERNETES}"
    if not target.is_dir():
        uv = shutil.which("uv") or str(tree.root / ".uv/bin/uv")
        if not Path(uv).exists():
            raise Missing("uv")
        with tempfile.TemporaryDirectory(dir=tree.cache) as scratch:
            done = run([uv, "pip", "install", "--quiet", "--no-deps", "--target", scratch, PACKAGE])
            if found := complaints(done, PACKAGE, network=True):
                raise Refused(found[0])
            made = Path(scratch) / "made"
            made.mkdir()
            for file in (Path(scratch) / FOLDER).glob("*.json"):
                # They refer to each other below an address of the web; here they do as files beside each other.
                schema = json.loads(file.read_text().replace('"/api/_definitions', '"_definitions'))
                schema.pop("$id", None)
                (made / file.name).write_text(json.dumps(schema))
            made.rename(target)
    return str(target / "{{.ResourceKind}}{{.KindSuffix}}.json")


def of_custom_resources(tree: Tree, names: list[str]) -> list[str]:
    """Where kubeconform finds the schemas of the custom resources that these charts define, in the pinned versions."""
    locations = []
    for name in names:
        target = tree.cache / "custom" / f"{name}-{tree.pins[name]['version']}"
        if not target.is_dir():
            done = helm(
                tree.cache, "template", name, str(tree.chart(name)), "--include-crds", "--kube-version", KUBERNETES
            )
            if found := complaints(done, name):
                raise Refused(found[0])
            for each in documents(done.stdout):
                if each["kind"] == "CustomResourceDefinition":
                    _write(each, target)
        locations.append(str(target / "{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"))
    return locations


def _write(definition: Manifest, target: Path) -> None:
    spec = definition["spec"]
    for version in spec["versions"]:
        file = target / spec["group"] / f"{spec['names']['kind'].lower()}_{version['name']}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(_closed(version["schema"]["openAPIV3Schema"], top=True)))


def _closed(schema: Any, *, top: bool = False) -> Any:
    """As JSON Schema: unknown fields are refused where the API server would drop them."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items() if key not in ("default", "format")}
    if isinstance(schema.get("properties"), dict):
        made["properties"] = {key: _closed(value) for key, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            made["additionalProperties"] = False
    if top:
        made["properties"] |= {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        }
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def judged(tree: Tree, manifests: dict[str, list[Manifest]], locations: list[str], scratch: Path) -> list[str]:
    """What kubeconform says of these documents, each under the name of where it comes from."""
    folder = scratch / "manifests"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for where, found in manifests.items():
        name = where.replace("/", "~").replace(" ", "_")
        (folder / f"{name}.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": found}))
    places = [part for location in locations for part in ("-schema-location", location)]
    flags = ["-strict", "-kubernetes-version", KUBERNETES, "-skip", ",".join(WITHOUT_SCHEMA), "-output", "json"]
    done = run([program("kubeconform", tree.cache), *flags, *places, str(folder)])
    try:
        resources = json.loads(done.stdout)["resources"]
    except (ValueError, KeyError):
        return [done.stdout.strip()]
    return [
        f"{Path(each['filename']).stem.replace('~', '/')}: {each['kind']} {each['name']}: {each['msg']}"
        for each in resources
        if each["status"] in ("statusInvalid", "statusError")
    ]
