"""Charts and what Argo CD would make of them: rendering an Application, as far as that needs no cluster."""

import os
import tarfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from deploy.lint.tools import NotChecked, complaints, helm, program, run

KUBERNETES = "1.34.0"
# A commit that no image has: the real one is written into environments/*.image.yaml by CI.
COMMIT = "0" * 40
ENVIRONMENTS = ("development", "production")
Manifest = dict[str, Any]


class Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: `=`, which definitions have among their values, is a text."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: str(node.value))


class Refused(Exception):
    """A program refused what stands in the tree."""


@dataclass
class Tree:
    """A checkout, and a folder for what was fetched and made."""

    root: Path
    cache: Path
    templates: dict[tuple[str, ...], list[Manifest]] = field(default_factory=dict, repr=False)

    @property
    def argocd(self) -> Path:
        return self.root / "deploy/argocd"

    @cached_property
    def pins(self) -> dict[str, dict[str, str]]:
        """Repository and version of each chart of other people."""
        return yaml.safe_load((self.argocd / "applications/values.yaml").read_text())["charts"]

    def chart(self, name: str) -> Path:
        """Archive of a chart of other people: from the folder LINT_CHARTS, else pulled once from its repository."""
        pin = self.pins[name]
        archive = f"{name}-{pin['version']}.tgz"
        given = Path(os.environ.get("LINT_CHARTS", "")) / archive
        if "LINT_CHARTS" in os.environ and given.exists():
            return given
        pulled = self.cache / "charts" / archive
        if not pulled.exists():
            pulled.parent.mkdir(parents=True, exist_ok=True)
            flags = ("--version", pin["version"], "--destination", str(pulled.parent))
            done = helm(self.cache, "pull", name, "--repo", pin["repository"], *flags)
            if found := complaints(done, f"{name} {pin['version']}", network=True):
                raise Refused(found[0])
        return pulled

    def template(self, *arguments: str) -> list[Manifest]:
        """Documents that `helm template` makes."""
        done = helm(self.cache, "template", *arguments, "--kube-version", KUBERNETES)
        if found := complaints(done):
            raise Refused(found[0])
        return documents(done.stdout)

    def kustomize(self, folder: Path) -> list[Manifest]:
        """Documents of a folder with a kustomization."""
        done = run([program("kustomize", self.cache), "build", str(folder)])
        if found := complaints(done):
            raise Refused(found[0])
        return documents(done.stdout)

    def applications(self, environment: str, scratch: Path) -> list[Manifest]:
        """The Applications of an environment: what the root Application would make, with a commit for the images."""
        chart = str(self.argocd / "root")
        found = self.template("root", chart, "--set", f"environment={environment}")
        root = next(each for each in found if each["kind"] == "Application")
        root["spec"]["source"]["helm"]["valuesObject"]["image"] = {"tag": COMMIT}
        return self.rendered(root, scratch)

    def rendered(self, application: Manifest, scratch: Path, *, definitions: bool = False) -> list[Manifest]:
        """What Argo CD would apply for an Application; a chart's custom resource definitions only when asked for."""
        spec = application["spec"]
        namespace = spec["destination"]["namespace"]
        found = []
        for source in spec.get("sources") or [spec["source"]]:
            if "chart" in source:
                flags = ("--include-crds",) if definitions else ()
                found += self._helm(self.chart(source["chart"]), self.root, source["helm"], namespace, scratch, *flags)
            elif "helm" in source:
                folder = self.root / source["path"]
                found += self._helm(folder, folder, source["helm"], namespace, scratch)
            elif "path" in source:
                found += self._folder(source, scratch)
        return found

    def _helm(
        self, chart: Path, beside: Path, given: Manifest, namespace: str, scratch: Path, *more: str
    ) -> list[Manifest]:
        """`beside`: where relative paths of value files begin."""
        values = scratch / "values.yaml"
        values.write_text(yaml.safe_dump(given.get("valuesObject", {})))
        files = [str(beside / name.removeprefix("$values/")) for name in given.get("valueFiles", [])]
        flags = [part for file in files for part in ("-f", file)]
        for parameter in given.get("fileParameters", []):
            flags += ["--set-file", f"{parameter['name']}={beside / parameter['path']}"]
        command = [given["releaseName"], str(chart), "-n", namespace, *flags, *more]
        # Most charts are the same in both environments.
        key = (*command, values.read_text())
        if key not in self.templates:
            self.templates[key] = self.template(*command, "-f", str(values))
        return self.templates[key]

    def _folder(self, source: Manifest, scratch: Path) -> list[Manifest]:
        folder = self.root / source["path"]
        if not (folder / "kustomization.yaml").exists():
            return [each for file in sorted(folder.glob("*.yaml")) for each in documents(file.read_text())]
        # What an Application says beside the folder's own kustomization stands above it.
        above = {"resources": [os.path.relpath(folder, scratch)], **source.get("kustomize", {})}
        if "images" in above:
            above["images"] = [_image(text) for text in above["images"]]
        (scratch / "kustomization.yaml").write_text(yaml.safe_dump(above))
        return self.kustomize(scratch)

    def values_of(self, name: str) -> tuple[Manifest, str]:
        """A chart's values.yaml, those of the charts in it under their names; and their text.

        Nothing for a chart that has a schema: helm holds our values against it by itself.
        """
        found: Manifest = {}
        inner: Manifest = {}
        text = ""
        with tarfile.open(self.chart(name)) as archive:
            if f"{name}/values.schema.json" in archive.getnames():
                return {}, ""
            for member in archive.getnames():
                parts = member.split("/")
                if parts[-1] != "values.yaml" or not (len(parts) == 2 or (len(parts) == 4 and parts[1] == "charts")):
                    continue
                file = archive.extractfile(member)
                read = file.read().decode() if file else ""
                text += read
                values = next(yaml.load_all(read, Loader), None) or {}
                if len(parts) == 2:
                    found = values
                else:
                    inner[parts[2]] = values
        for chart, values in inner.items():
            found[chart] = _merged(values, found.get(chart) or {})
        return found, text

    def third_party(self) -> list[str]:
        """The charts of other people that Applications install."""
        return [name for name in self.pins if name != "argo-cd"]


def documents(text: str) -> list[Manifest]:
    """Kubernetes objects of a YAML stream; lists are taken apart."""
    found = [each for each in yaml.load_all(text, Loader) if isinstance(each, dict) and "kind" in each]
    return [inner for each in found for inner in (each["items"] if each["kind"] == "List" else [each])]


def _merged(values: Manifest, above: Manifest) -> Manifest:
    """`above` laid over `values`, mapping by mapping."""
    both = {key: _merged(values[key], above[key]) for key in values if isinstance(values[key], dict) and above.get(key)}
    return {**values, **above, **both}


def _image(text: str) -> Manifest:
    """Argo CD's ``name=new:tag`` as a kustomization writes it."""
    name, _, new = text.partition("=")
    renamed, _, tag = new.rpartition(":")
    return {"name": name, "newName": renamed, "newTag": tag}


def reachable(tree: Tree, names: list[str]) -> None:
    """All of these charts can be had, or it is said which cannot."""
    away, reason = [], ""
    for name in names:
        try:
            tree.chart(name)
        except NotChecked as error:
            away.append(name)
            reason = str(error)[:120]
    if away:
        raise NotChecked(f"no chart of {', '.join(away)} ({reason}…); or LINT_CHARTS=<folder of archives>")
