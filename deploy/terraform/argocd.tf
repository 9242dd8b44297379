# Argo CD, and the one Application that makes all others. From here on git is what changes the cluster, not Terraform.
locals {
  # The versions of all charts stand in one file.
  argo_cd = yamldecode(file("${path.module}/../argocd/applications/values.yaml")).charts["argo-cd"]
}

resource "helm_release" "argo_cd" {
  name       = "argocd"
  namespace  = kubernetes_namespace_v1.this["argocd"].metadata[0].name
  repository = local.argo_cd.repository
  chart      = "argo-cd"
  version    = local.argo_cd.version
  values     = [file("${path.module}/argo-cd.yaml")]
  # A release that did not come up is taken back, and the next one begins anew.
  atomic          = true
  cleanup_on_fail = true
  timeout         = 600
}

resource "helm_release" "root" {
  name      = "mlops"
  namespace = kubernetes_namespace_v1.this["argocd"].metadata[0].name
  chart     = "${path.module}/../argocd/root"
  values = [yamlencode({
    repository  = var.repository
    revision    = var.revision
    environment = var.environment
  })]
  # AppProject and Application are defined by the other chart, and the namespaces must be there before Applications are.
  depends_on = [helm_release.argo_cd, kubernetes_namespace_v1.this, kubernetes_service_account_v1.this]
}
