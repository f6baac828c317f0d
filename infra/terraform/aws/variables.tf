variable "name" {
  description = "Begins the names of all that is made, and marks the machines that the coordinator may end. One for each deployment in an account."
  type        = string
  default     = "trainctl"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name: expected 3 to 24 lower-case letters, digits and hyphens, the first a letter, the last no hyphen."
  }
}

variable "bundle" {
  description = "Path of the bundle that `cargo xtask dist` made. It is put into the bucket; machines check its digest."
  type        = string

  validation {
    condition     = can(regex("[.]tar[.](zst|gz)$", var.bundle)) && fileexists(var.bundle)
    error_message = "bundle: expected the path of a file that ends with .tar.zst or .tar.gz. Make one with `cargo xtask dist --cloud aws`."
  }
}

variable "instance_types" {
  description = "What workers may run on. speed: how fast one step goes compared to the others. EC2 tells spot prices only, so the on-demand price is said here. All types should give equal bits: CPUs of one make, or GPUs of one model."
  type = map(object({
    on_demand_usd_per_hour = number
    speed                  = optional(number, 1)
  }))

  validation {
    condition     = length(var.instance_types) > 0
    error_message = "instance_types: expected at least one."
  }
  validation {
    condition     = alltrue([for type in values(var.instance_types) : type.speed > 0 && type.on_demand_usd_per_hour > 0])
    error_message = "instance_types: expected speeds and prices above 0."
  }
}

variable "zones" {
  description = "The region's availability zones in which workers may run, the coordinator in the first. More zones mean more spot capacity; traffic between zones is paid for. Add new ones at the end: the others keep their subnets."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 1 && length(var.zones) <= 15 && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones: expected 1 to 15 zones, each once."
  }
  validation {
    condition     = alltrue([for zone in var.zones : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$", zone))])
    error_message = "zones: expected names such as us-east-1a."
  }
}

variable "max_workers" {
  description = "The most workers at a time."
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

variable "image_id" {
  description = "The image of all machines: Linux on x86_64 with cloud-init, systemd, curl 7.87 or newer and zstd. Null: Canonical's newest Ubuntu 24.04."
  type        = string
  default     = null

  validation {
    condition     = var.image_id == null || can(regex("^ami-[0-9a-f]{8,17}$", var.image_id))
    error_message = "image_id: expected an id such as ami-0123456789abcdef0."
  }
}

variable "coordinator_instance_type" {
  description = "Of the coordinator. It needs little: memory for its records."
  type        = string
  default     = "t3.small"
}

variable "coordinator_disk_gb" {
  description = "Of the disk with the coordinator's records."
  type        = number
  default     = 10

  validation {
    condition     = var.coordinator_disk_gb >= 4 && var.coordinator_disk_gb <= 1024
    error_message = "coordinator_disk_gb: expected a number from 4 to 1024."
  }
}

variable "worker_disk_gb" {
  description = "Of a worker's disk: the system, the bundle (1 GB), and the cached data set."
  type        = number
  default     = 30

  validation {
    condition     = var.worker_disk_gb >= 16 && var.worker_disk_gb <= 16384
    error_message = "worker_disk_gb: expected a number from 16 to 16384."
  }
}

variable "cidr" {
  description = "Addresses of the network that is made."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.cidr, 4, 15))
    error_message = "cidr: expected a network such as 10.20.0.0/16."
  }
}

variable "kms_key_arn" {
  description = "A KMS key of yours for bucket and disks. Null: the keys that AWS manages."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:", var.kms_key_arn))
    error_message = "kms_key_arn: expected the ARN of a KMS key."
  }
}

variable "data_buckets" {
  description = "Names of other buckets that workers and the coordinator may read pinned data from."
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

variable "tags" {
  description = "On everything that is made here."
  type        = map(string)
  default     = {}
}
