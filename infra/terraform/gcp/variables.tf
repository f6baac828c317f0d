variable "project" {
  description = "The id of the project that pays. Its APIs compute, iam, iap and storage are enabled."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project: expected a project's id, 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Where all of it lies, data too."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region: expected one such as us-central1."
  }
}

variable "zones" {
  description = "Where workers may run, the coordinator in the first. More zones mean more spot capacity; traffic between zones is paid for."
  type        = list(string)
  default     = ["us-central1-a", "us-central1-b", "us-central1-c"]

  validation {
    condition     = length(var.zones) > 0 && alltrue([for zone in var.zones : startswith(zone, "${var.region}-")])
    error_message = "zones: expected at least one, all in the region."
  }
}

variable "name" {
  description = "Begins the names of all that is made. One for each deployment in a project."
  type        = string
  default     = "trainctl"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: expected 3 to 20 lower-case letters, digits and hyphens, the first a letter, the last no hyphen."
  }
}

variable "bundle" {
  description = "Path of the bundle that `cargo xtask dist` made. It is put into the bucket; machines check its digest."
  type        = string

  validation {
    condition     = can(regex("[.]tar[.](zst|gz)$", var.bundle)) && fileexists(var.bundle)
    error_message = "bundle: expected the path of a file that ends with .tar.zst or .tar.gz. Make one with `cargo xtask dist --cloud gcp`."
  }
}

variable "machine_types" {
  description = "What workers may run on; each becomes a pool, gcp-TYPE. The API tells no prices, so they are said here: of a Spot VM, and on demand."
  type = map(object({
    usd_per_hour           = number
    on_demand_usd_per_hour = number
  }))

  validation {
    condition     = length(var.machine_types) > 0
    error_message = "machine_types: expected at least one."
  }
  validation {
    condition     = alltrue([for type in values(var.machine_types) : type.usd_per_hour > 0 && type.on_demand_usd_per_hour > 0])
    error_message = "machine_types: expected prices above 0."
  }
}

variable "max_workers" {
  description = "The most workers at a time, of each machine type."
  type        = number
  default     = 8

  validation {
    condition     = var.max_workers >= 1 && var.max_workers <= 1000 && floor(var.max_workers) == var.max_workers
    error_message = "max_workers: expected a whole number from 1 to 1000."
  }
}

variable "on_demand" {
  description = "Whether jobs may also take on-demand machines, to meet a deadline."
  type        = bool
  default     = true
}

variable "image" {
  description = "The image of all machines: Linux on x86_64 with cloud-init, systemd, curl 7.87 or newer and zstd."
  type        = string
  default     = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"
}

variable "coordinator_machine_type" {
  description = "Of the coordinator. It needs little: memory for its records."
  type        = string
  default     = "e2-small"
}

variable "coordinator_disk_gb" {
  description = "Of the disk with the coordinator's records."
  type        = number
  default     = 10

  validation {
    condition     = var.coordinator_disk_gb >= 10 && var.coordinator_disk_gb <= 1024
    error_message = "coordinator_disk_gb: expected a number from 10 to 1024."
  }
}

variable "worker_disk_gb" {
  description = "Of a worker's disk: the system, the bundle (1 GB), and the cached data set."
  type        = number
  default     = 30

  validation {
    condition     = var.worker_disk_gb >= 16 && var.worker_disk_gb <= 65536
    error_message = "worker_disk_gb: expected a number from 16 to 65536."
  }
}

variable "cidr" {
  description = "Addresses of the network that is made."
  type        = string
  default     = "10.30.0.0/20"

  validation {
    condition     = can(cidrhost(var.cidr, 10))
    error_message = "cidr: expected a network such as 10.30.0.0/20."
  }
}

variable "kms_key" {
  description = "A KMS key of yours for bucket and disks, projects/P/locations/L/keyRings/R/cryptoKeys/K. Null: the keys that Google manages."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key: expected projects/P/locations/L/keyRings/R/cryptoKeys/K."
  }
}

variable "administrators" {
  description = "Who may reach the coordinator through Identity-Aware Proxy, such as user:me@example.com."
  type        = set(string)
  default     = []
}

variable "keep_noncurrent_days" {
  description = "How long the bucket keeps what was overwritten or deleted."
  type        = number
  default     = 7

  validation {
    condition     = var.keep_noncurrent_days >= 1 && floor(var.keep_noncurrent_days) == var.keep_noncurrent_days
    error_message = "keep_noncurrent_days: expected a whole number, at least 1."
  }
}

variable "destroy_bucket" {
  description = "Whether `terraform destroy` may delete a bucket that still holds checkpoints."
  type        = bool
  default     = false
}

variable "labels" {
  description = "On everything that is made here and can carry them."
  type        = map(string)
  default     = {}
}
