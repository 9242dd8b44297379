# Accounts whose identity is the cloud's business. Argo CD applies mlops-steps too (deploy/platform) and leaves the
# annotations alone. Every other account comes with what uses it: docs/rbac.md lists them.
locals {
  accounts = {
    "mlops/mlops-steps"              = { namespace = "mlops", name = "mlops-steps" }
    "external-secrets/secret-reader" = { namespace = "external-secrets", name = "secret-reader" }
  }
}

resource "kubernetes_service_account_v1" "this" {
  for_each = local.accounts
  metadata {
    name        = each.value.name
    namespace   = kubernetes_namespace_v1.this[each.value.namespace].metadata[0].name
    annotations = lookup(var.identities, each.key, {})
  }
  # No pod talks to Kubernetes with them.
  automount_service_account_token = false
}
