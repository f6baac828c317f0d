# What the two kinds of machines may do. Neither holds a key: both take short-lived tokens from their service accounts.

resource "google_service_account" "worker" {
  project      = var.project
  account_id   = "${var.name}-worker"
  display_name = "Workers of trainctl"
}

resource "google_service_account" "coordinator" {
  project      = var.project
  account_id   = "${var.name}-coord"
  display_name = "The coordinator of trainctl"
}

# The bucket.

resource "google_storage_bucket_iam_member" "list" {
  for_each = { worker = google_service_account.worker.email, coordinator = google_service_account.coordinator.email }
  bucket   = google_storage_bucket.this.name
  role     = "roles/storage.legacyBucketReader"
  member   = "serviceAccount:${each.value}"
}

resource "google_storage_bucket_iam_member" "worker_reads" {
  bucket = google_storage_bucket.this.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.worker.email}"

  condition {
    title      = "program-and-data"
    expression = "resource.name.startsWith('${local.objects}/bundles/') || resource.name.startsWith('${local.objects}/data/')"
  }
}

# Deleting is retention; the bucket keeps what was deleted for a while.
resource "google_storage_bucket_iam_member" "worker_writes" {
  bucket = google_storage_bucket.this.name
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${google_service_account.worker.email}"

  condition {
    title      = "checkpoints"
    expression = "resource.name.startsWith('${local.objects}/runs/')"
  }
}

resource "google_storage_bucket_iam_member" "coordinator_reads" {
  bucket = google_storage_bucket.this.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.coordinator.email}"
}

# Machines.

resource "google_project_iam_custom_role" "look" {
  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_look"
  title       = "trainctl: see machines, use the template"
  description = "What can't be bound to one machine"
  permissions = [
    "compute.disks.create",
    "compute.images.useReadOnly",
    "compute.instanceTemplates.get",
    "compute.instanceTemplates.useReadOnly",
    "compute.instances.list",
    "compute.subnetworks.use",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
  ]
}

resource "google_project_iam_custom_role" "machines" {
  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_machines"
  title       = "trainctl: start and end workers' machines"
  description = "Of machines that carry trainctl's name"
  permissions = [
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
    "compute.instances.setTags",
  ]
}

resource "google_project_iam_member" "coordinator_looks" {
  project = var.project
  role    = google_project_iam_custom_role.look.id
  member  = "serviceAccount:${google_service_account.coordinator.email}"
}

# The coordinator names the machines that it starts trainctl-CLUSTER-INSTANCE. Others it can't touch.
resource "google_project_iam_member" "coordinator_starts_and_ends" {
  project = var.project
  role    = google_project_iam_custom_role.machines.id
  member  = "serviceAccount:${google_service_account.coordinator.email}"

  condition {
    title      = "machines-of-trainctl"
    expression = "resource.type != 'compute.googleapis.com/Instance' || (resource.name.extract('/instances/{name}').startsWith('trainctl-c') && !resource.name.endsWith('-coordinator'))"
  }
}

# Machines get this account, and no other.
resource "google_service_account_iam_member" "coordinator_gives_workers_account" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${google_service_account.coordinator.email}"
}

# People.

resource "google_iap_tunnel_instance_iam_member" "administrators" {
  for_each = var.administrators
  project  = var.project
  zone     = google_compute_instance.coordinator.zone
  instance = google_compute_instance.coordinator.name
  role     = "roles/iap.tunnelResourceAccessor"
  member   = each.value
}
