# The least that gives a coordinator and a pool: a project and a bundle.
#
#   cargo xtask dist --cloud gcp
#   terraform init
#   terraform apply -var project=MY-PROJECT -var bundle=../../../../../target/dist/trainctl-0.1.0-linux-x86_64.tar.zst

terraform {
  required_version = ">= 1.9"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
}

variable "project" {
  description = "The project that pays."
  type        = string
}

variable "bundle" {
  description = "The bundle that `cargo xtask dist` made."
  type        = string
}

variable "administrators" {
  description = "Who may reach the coordinator, such as user:me@example.com."
  type        = set(string)
  default     = []
}

variable "destroy_bucket" {
  description = "Whether `terraform destroy` may delete a bucket that still holds checkpoints."
  type        = bool
  default     = false
}

provider "google" {
  project = var.project
}

module "trainctl" {
  source         = "../.."
  project        = var.project
  bundle         = var.bundle
  administrators = var.administrators
  destroy_bucket = var.destroy_bucket
  max_workers    = 4
  # Prices of us-central1 as they stood in 2025: look yours up.
  machine_types = {
    "n2-standard-4" = { usd_per_hour = 0.05, on_demand_usd_per_hour = 0.1942 }
  }
}

output "checkpoint_root" {
  description = "What a job names as checkpoint.root."
  value       = module.trainctl.checkpoint_root
}

output "data_root" {
  description = "Where data sets go that jobs read."
  value       = module.trainctl.data_root
}

output "tunnel" {
  description = "Makes the coordinator's port one of this computer's."
  value       = module.trainctl.tunnel
}

output "pools" {
  description = "The pools that the coordinator runs with."
  value       = module.trainctl.pools
}
