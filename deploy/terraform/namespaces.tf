# Before anything is installed: namespaces that refuse a pod outside of the level "restricted", and what they may use.
locals {
  namespaces = ["argocd", "mlops", "airflow", "monitoring", "strimzi", "external-secrets"]
}

resource "kubernetes_namespace_v1" "this" {
  for_each = toset(local.namespaces)
  metadata {
    name = each.key
    labels = {
      "pod-security.kubernetes.io/enforce" = "restricted"
      "pod-security.kubernetes.io/warn"    = "restricted"
      "app.kubernetes.io/part-of"          = "mlops-dags"
    }
  }
  lifecycle {
    # Whoever destroys a namespace destroys every claim in it.
    prevent_destroy = true
    # Argo CD writes its own beside these.
    ignore_changes = [metadata[0].annotations]
  }
}

resource "kubernetes_resource_quota_v1" "this" {
  for_each = var.quotas
  metadata {
    name      = "namespace"
    namespace = kubernetes_namespace_v1.this[each.key].metadata[0].name
  }
  spec {
    hard = {
      "requests.cpu"           = each.value.cpu_requests
      "requests.memory"        = each.value.memory_requests
      "limits.memory"          = each.value.memory_limits
      "persistentvolumeclaims" = each.value.claims
      "pods"                   = each.value.pods
    }
  }
}

# A quota refuses a container that asks for nothing; this asks in its name. No limit of CPU: a container without one
# may use what is idle.
resource "kubernetes_limit_range_v1" "this" {
  for_each = var.quotas
  metadata {
    name      = "containers"
    namespace = kubernetes_namespace_v1.this[each.key].metadata[0].name
  }
  spec {
    limit {
      type            = "Container"
      default         = { memory = "256Mi" }
      default_request = { cpu = "50m", memory = "64Mi" }
    }
  }
}
