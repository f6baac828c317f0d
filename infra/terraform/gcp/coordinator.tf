# The coordinator: one small machine, its records on a disk of their own that outlives it.

locals {
  vm = "${path.module}/../../vm"

  bundle_uri = "gs://${google_storage_bucket.this.name}/${google_storage_bucket_object.bundle.name}"

  pools = templatefile("${path.module}/pools.toml.tftpl", {
    project         = var.project
    zones           = var.zones
    machine_types   = var.machine_types
    templates       = { for type, template in google_compute_instance_template.worker : type => template.id }
    max_workers     = var.max_workers
    on_demand       = var.on_demand
    bundle_uri      = local.bundle_uri
    bundle_digest   = "sha256:${local.bundle_sha256}"
    coordinator_url = "https://${google_compute_address.coordinator.address}:${local.coordinator_port}"
  })

  coordinator_user_data = templatefile("${local.vm}/coordinator.yaml.tftpl", {
    vm    = local.vm
    pools = local.pools
    env = {
      TRAINCTL_NOTICES          = "gce"
      TRAINCTL_BUNDLE_URI       = local.bundle_uri
      TRAINCTL_BUNDLE_DIGEST    = "sha256:${local.bundle_sha256}"
      TRAINCTL_RECORDS_DEVICE   = "/dev/disk/by-id/google-records"
      TRAINCTL_COORDINATOR_PORT = local.coordinator_port
    }
  })
}

resource "google_compute_address" "coordinator" {
  project      = var.project
  name         = "${var.name}-coordinator"
  region       = var.region
  address_type = "INTERNAL"
  subnetwork   = google_compute_subnetwork.this.id
  address      = cidrhost(var.cidr, 10)
}

resource "google_compute_disk" "records" {
  # checkov:skip=CKV_GCP_37:Encrypted with the key that kms_key names, else with one that Google manages.
  project = var.project
  name    = "${var.name}-records"
  zone    = var.zones[0]
  type    = "pd-balanced"
  size    = var.coordinator_disk_gb
  labels  = local.labels

  dynamic "disk_encryption_key" {
    for_each = var.kms_key[*]
    content {
      kms_key_self_link = disk_encryption_key.value
    }
  }
}

resource "google_compute_instance" "coordinator" {
  # checkov:skip=CKV_GCP_38:Encrypted with the key that kms_key names, else with one that Google manages.
  project                   = var.project
  name                      = "${var.name}-coordinator"
  zone                      = var.zones[0]
  machine_type              = var.coordinator_machine_type
  allow_stopping_for_update = true
  labels                    = local.labels

  boot_disk {
    kms_key_self_link = var.kms_key
    initialize_params {
      image = var.image
      size  = 16
      type  = "pd-balanced"
    }
  }

  attached_disk {
    source            = google_compute_disk.records.id
    device_name       = "records"
    kms_key_self_link = var.kms_key
  }

  network_interface {
    subnetwork = google_compute_subnetwork.this.id
    network_ip = google_compute_address.coordinator.address
  }

  service_account {
    email  = google_service_account.coordinator.email
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  metadata = {
    user-data              = local.coordinator_user_data
    block-project-ssh-keys = "true"
    enable-oslogin         = "TRUE"
    serial-port-enable     = "false"
  }

  lifecycle {
    # A newer image alone is no reason for a new coordinator; a new bundle or new pools are.
    ignore_changes       = [boot_disk[0].initialize_params[0].image]
    replace_triggered_by = [terraform_data.user_data]
  }

  depends_on = [
    google_storage_bucket_iam_member.list,
    google_storage_bucket_iam_member.coordinator_reads,
    google_project_iam_member.coordinator_looks,
    google_project_iam_member.coordinator_starts_and_ends,
    google_service_account_iam_member.coordinator_gives_workers_account,
  ]
}

# User data is read at the first boot only.
resource "terraform_data" "user_data" {
  input = sha256(local.coordinator_user_data)
}
