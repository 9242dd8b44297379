output "argo_cd" {
  description = "How to look at Argo CD: it has no address outside of the cluster."
  value       = "kubectl -n argocd port-forward service/argocd-server 8080:80"
}

output "argo_cd_version" {
  description = "Version of the chart argo-cd that is installed."
  value       = helm_release.argo_cd.version
}

output "follows" {
  description = "What Argo CD follows."
  value       = "${var.repository}, ${var.revision}, as ${var.environment}"
}

output "namespaces" {
  description = "Namespaces, all with Pod Security \"restricted\"."
  value       = sort(local.namespaces)
}
