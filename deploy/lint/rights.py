"""What every ServiceAccount may do, from what is rendered: docs/rbac.md must say the same."""

from collections import defaultdict
from collections.abc import Iterable

from deploy.lint.charts import Manifest

# namespace, account
Account = tuple[str, str]


def accounts_of(manifests: Iterable[tuple[str, Manifest]]) -> dict[Account, set[str]]:
    """Of each account, its rules as ``where: group/resource (name): verbs``; `manifests` come with their namespace."""
    objects = [(each["metadata"].get("namespace") or namespace, each) for namespace, each in manifests]
    roles: dict[tuple[str, str, str], Manifest] = {}
    found: dict[Account, set[str]] = defaultdict(set)
    for namespace, each in objects:
        kind, name = each["kind"], each["metadata"]["name"]
        if kind in ("Role", "ClusterRole"):
            roles[kind, namespace if kind == "Role" else "", name] = each
        elif kind == "ServiceAccount":
            found[namespace, name] |= set()
    for namespace, each in objects:
        if each["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        reference = each["roleRef"]
        role = roles.get((reference["kind"], namespace if reference["kind"] == "Role" else "", reference["name"]))
        where = f"in {namespace}" if each["kind"] == "RoleBinding" else "everywhere"
        rules = [line for rule in (role or {}).get("rules") or [] for line in _lines(rule)]
        said = {f"{where}: {line}" for line in rules} or {f"{where}: {reference['kind']} {reference['name']}"}
        for subject in each.get("subjects") or []:
            if subject["kind"] == "ServiceAccount":
                found[subject.get("namespace") or namespace, subject["name"]] |= said
    return dict(found)


def _lines(rule: Manifest) -> list[str]:
    verbs = ", ".join(sorted(rule["verbs"]))
    if "nonResourceURLs" in rule:
        return [f"{url}: {verbs}" for url in rule["nonResourceURLs"]]
    names = f" ({', '.join(rule['resourceNames'])})" if rule.get("resourceNames") else ""
    groups = rule.get("apiGroups") or [""]
    return [
        f"{f'{group}/' if group else ''}{resource}{names}: {verbs}"
        for group in groups
        for resource in rule["resources"]
    ]


# Programs that work on the whole cluster by their nature: their rules are their authors', and too many to list.
OPERATORS = ("strimzi", "external-secrets", "argocd")
BY_CHART = "as its chart says"


def disagreements(page: str, accounts: dict[Account, set[str]]) -> list[str]:
    """Where the page and the manifests differ; the page has a table for each namespace."""
    written: dict[Account, str] = {}
    namespace = ""
    for line in page.splitlines():
        if line.startswith("## "):
            namespace = line.removeprefix("## ").strip()
        elif line.startswith("| `"):
            account, may, *_ = (cell.strip() for cell in line.strip("|").split(" | "))
            written[namespace, account.strip("`")] = may
    found = [f"{where} has no account {name}, but the page says so" for where, name in written.keys() - accounts.keys()]
    for (where, name), rules in sorted(accounts.items()):
        said = written.get((where, name))
        if said is None:
            found.append(f"{where}: the account {name} is not on the page")
        elif said.startswith(BY_CHART):
            if where not in OPERATORS and not name.endswith("-operator"):
                found.append(f"{where}: {name} is no operator: the page must list what it may do")
        else:
            listed = set() if said == "nothing" else set(said.split("<br>"))
            found += [f"{where}: {name} may `{rule}`, and the page does not say so" for rule in sorted(rules - listed)]
            found += [f"{where}: {name} may not `{rule}`, but the page says so" for rule in sorted(listed - rules)]
    return found
