# What every worker's machine has in common. The coordinator adds zone, labels, user data, and spot or not.

resource "google_compute_instance_template" "worker" {
  for_each     = var.machine_types
  project      = var.project
  name_prefix  = "${var.name}-worker-"
  description  = "A worker of trainctl"
  region       = var.region
  machine_type = each.key
  labels       = local.labels

  disk {
    boot         = true
    auto_delete  = true
    source_image = var.image
    disk_size_gb = var.worker_disk_gb
    disk_type    = "pd-balanced"

    dynamic "disk_encryption_key" {
      for_each = var.kms_key[*]
      content {
        kms_key_self_link = disk_encryption_key.value
      }
    }
  }

  network_interface {
    subnetwork = google_compute_subnetwork.this.id
  }

  service_account {
    email  = google_service_account.worker.email
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  metadata = {
    block-project-ssh-keys = "true"
    enable-oslogin         = "TRUE"
    serial-port-enable     = "false"
  }

  lifecycle {
    create_before_destroy = true
  }
}
