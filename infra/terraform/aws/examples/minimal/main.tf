# The least that gives a coordinator and a pool: a bundle and a region.
#
#   cargo xtask dist --cloud aws
#   terraform init && terraform apply -var bundle=../../../../../target/dist/trainctl-0.1.0-linux-x86_64.tar.zst

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60, < 7.0"
    }
  }
}

variable "bundle" {
  description = "The bundle that `cargo xtask dist` made."
  type        = string
}

variable "region" {
  description = "Where all of it lies, data too."
  type        = string
  default     = "us-east-1"
}

variable "destroy_bucket" {
  description = "Whether `terraform destroy` may delete a bucket that still holds checkpoints."
  type        = bool
  default     = false
}

provider "aws" {
  region = var.region
}

module "trainctl" {
  source         = "../.."
  bundle         = var.bundle
  zones          = [for letter in ["a", "b", "c"] : "${var.region}${letter}"]
  destroy_bucket = var.destroy_bucket
  max_workers    = 4
  # Prices of us-east-1 as they stood in 2025: look yours up.
  instance_types = {
    "c7i.xlarge"  = { on_demand_usd_per_hour = 0.1785 }
    "c7i.2xlarge" = { on_demand_usd_per_hour = 0.357, speed = 1.8 }
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

output "coordinator_instance_id" {
  description = "The machine that Session Manager connects to."
  value       = module.trainctl.coordinator_instance_id
}

output "tunnel" {
  description = "Makes the coordinator's port one of this computer's."
  value       = module.trainctl.tunnel
}

output "pools" {
  description = "The pools that the coordinator runs with."
  value       = module.trainctl.pools
}
