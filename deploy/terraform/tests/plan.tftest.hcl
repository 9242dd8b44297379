# What would be made. Nothing is created: the providers are mocked.
mock_provider "kubernetes" {}
mock_provider "helm" {}

variables {
  environment = "production"
  repository  = "https://git.example.org/team/mlops-dags.git"
  identities = {
    "mlops/mlops-steps" = { "example.org/role" = "steps" }
  }
}

run "every_namespace_is_restricted" {
  command = plan
  assert {
    condition = alltrue([
      for namespace in kubernetes_namespace_v1.this :
      namespace.metadata[0].labels["pod-security.kubernetes.io/enforce"] == "restricted"
    ])
    error_message = "A namespace would let pods in that are not restricted."
  }
  assert {
    condition     = length(kubernetes_namespace_v1.this) == 6
    error_message = "There are six namespaces."
  }
}

run "a_quota_comes_with_defaults" {
  command = plan
  assert {
    condition     = keys(kubernetes_resource_quota_v1.this) == keys(kubernetes_limit_range_v1.this)
    error_message = "A quota without a limit range refuses each container that asks for nothing."
  }
}

run "the_cloud_knows_the_steps" {
  command = plan
  assert {
    condition     = kubernetes_service_account_v1.this["mlops/mlops-steps"].metadata[0].annotations["example.org/role"] == "steps"
    error_message = "The account of the steps' pods did not get its annotation."
  }
}

run "argo_cd_is_told_where_to_look" {
  command = plan
  assert {
    condition     = yamldecode(helm_release.root.values[0]).environment == "production"
    error_message = "The root Application would follow another environment."
  }
  assert {
    condition     = helm_release.argo_cd.version == local.argo_cd.version
    error_message = "Argo CD's chart is not the version of deploy/argocd/applications/values.yaml."
  }
}
