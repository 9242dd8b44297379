variable "environment" {
  description = "Which files of deploy/argocd/environments Argo CD reads: development or production."
  type        = string
  validation {
    condition     = contains(["development", "production"], var.environment)
    error_message = "environment is \"${var.environment}\": development and production are the two there are."
  }
}

variable "repository" {
  description = "Your copy of this repository, as Argo CD clones it."
  type        = string
  validation {
    condition     = can(regex("^(https://[^/@:]+/|ssh://git@[^/]+/|git@[^:]+:)[^ ]+\\.git$", var.repository))
    error_message = "repository must be https://host/path.git, ssh://git@host/path.git or git@host:path.git, without a user or a password: credentials go into a Secret of the namespace argocd (docs/gitops.md)."
  }
}

variable "revision" {
  description = "Branch that Argo CD follows: main for development, production for production."
  type        = string
  default     = "main"
  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]*$", var.revision))
    error_message = "revision is \"${var.revision}\": give a branch, a tag or a commit."
  }
}

variable "kubeconfig" {
  description = "File with the way into the cluster."
  type        = string
  default     = "~/.kube/config"
}

variable "context" {
  description = "Context of the kubeconfig; null: its current one. Better given: the current one is whichever was used last."
  type        = string
  default     = null
}

variable "quotas" {
  description = "What all pods of a namespace may ask for together, and how many claims and pods there may be. A namespace that is not named here has no quota."
  type = map(object({
    cpu_requests    = string
    memory_requests = string
    memory_limits   = string
    claims          = number
    pods            = number
  }))
  # mlops: the service at six replicas, its data stores with three brokers, and eight steps at once (docs/gitops.md).
  default = {
    mlops      = { cpu_requests = "12", memory_requests = "20Gi", memory_limits = "48Gi", claims = 20, pods = 60 }
    airflow    = { cpu_requests = "6", memory_requests = "12Gi", memory_limits = "40Gi", claims = 5, pods = 60 }
    monitoring = { cpu_requests = "2", memory_requests = "4Gi", memory_limits = "8Gi", claims = 6, pods = 20 }
  }
  validation {
    condition     = length(setsubtract(keys(var.quotas), ["mlops", "airflow", "monitoring", "strimzi", "external-secrets"])) == 0
    error_message = "quotas names a namespace that is not one of mlops, airflow, monitoring, strimzi, external-secrets."
  }
  validation {
    condition     = alltrue([for quota in values(var.quotas) : can(regex("^[0-9]+m?$", quota.cpu_requests))])
    error_message = "cpu_requests is a number of cores or of thousandths: \"12\" or \"500m\"."
  }
  validation {
    condition = alltrue([
      for quota in values(var.quotas) :
      can(regex("^[1-9][0-9]*(Mi|Gi)$", quota.memory_requests)) && can(regex("^[1-9][0-9]*(Mi|Gi)$", quota.memory_limits))
    ])
    error_message = "memory_requests and memory_limits are written with Mi or Gi: \"20Gi\"."
  }
  validation {
    condition     = alltrue([for quota in values(var.quotas) : quota.claims >= 0 && quota.pods > 0])
    error_message = "claims must not be negative, and pods must be at least 1."
  }
}

variable "identities" {
  description = "Annotations by which the cloud gives a ServiceAccount an identity, by namespace/name: {\"mlops/mlops-steps\" = {\"eks.amazonaws.com/role-arn\" = \"arn:…\"}}. Then no keys of the object store are needed in mlops-secrets."
  type        = map(map(string))
  default     = {}
  validation {
    condition     = length(setsubtract(keys(var.identities), ["mlops/mlops-steps", "external-secrets/secret-reader"])) == 0
    error_message = "identities knows mlops/mlops-steps (the steps' pods) and external-secrets/secret-reader (who reads the secret store)."
  }
}
