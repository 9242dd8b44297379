# Copy it to <environment>.tfvars and put your own in. Nothing secret belongs here.
environment = "development"
repository  = "https://github.com/your-org/mlops-dags.git"
context     = "development"
# revision  = "production" # for the environment production: docs/gitops.md
