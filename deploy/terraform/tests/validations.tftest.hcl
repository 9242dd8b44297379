# What a variable must refuse, and what it must take. Nothing is created: the providers are mocked.
mock_provider "kubernetes" {}
mock_provider "helm" {}

variables {
  environment = "development"
  repository  = "https://git.example.org/team/mlops-dags.git"
}

run "least_is_enough" {
  command = plan
}

run "ssh_is_a_way_too" {
  command = plan
  variables {
    repository = "git@git.example.org:team/mlops-dags.git"
  }
}

run "no_third_environment" {
  command = plan
  variables {
    environment = "staging"
  }
  expect_failures = [var.environment]
}

run "no_password_in_an_address" {
  command = plan
  variables {
    repository = "https://user:password@git.example.org/team/mlops-dags.git"
  }
  expect_failures = [var.repository]
}

run "no_plain_http" {
  command = plan
  variables {
    repository = "http://git.example.org/team/mlops-dags.git"
  }
  expect_failures = [var.repository]
}

run "no_empty_revision" {
  command = plan
  variables {
    revision = ""
  }
  expect_failures = [var.revision]
}

run "no_quota_of_a_foreign_namespace" {
  command = plan
  variables {
    quotas = {
      kube-system = { cpu_requests = "1", memory_requests = "1Gi", memory_limits = "2Gi", claims = 1, pods = 1 }
    }
  }
  expect_failures = [var.quotas]
}

run "no_memory_without_a_unit" {
  command = plan
  variables {
    quotas = {
      mlops = { cpu_requests = "1", memory_requests = "1024", memory_limits = "2Gi", claims = 1, pods = 1 }
    }
  }
  expect_failures = [var.quotas]
}

run "no_words_for_cores" {
  command = plan
  variables {
    quotas = {
      mlops = { cpu_requests = "two", memory_requests = "1Gi", memory_limits = "2Gi", claims = 1, pods = 1 }
    }
  }
  expect_failures = [var.quotas]
}

run "no_namespace_without_pods" {
  command = plan
  variables {
    quotas = {
      mlops = { cpu_requests = "1", memory_requests = "1Gi", memory_limits = "2Gi", claims = 1, pods = 0 }
    }
  }
  expect_failures = [var.quotas]
}

run "no_identity_for_a_stranger" {
  command = plan
  variables {
    identities = {
      "mlops/default" = {}
    }
  }
  expect_failures = [var.identities]
}
