output "bucket" {
  description = "The bucket: data/ for pinned data sets, runs/ for checkpoints."
  value       = google_storage_bucket.this.name
}

output "checkpoint_root" {
  description = "What a job names as checkpoint.root."
  value       = "gs://${google_storage_bucket.this.name}/runs"
}

output "data_root" {
  description = "Where data sets go that jobs read."
  value       = "gs://${google_storage_bucket.this.name}/data"
}

output "coordinator_url" {
  description = "Where workers reach the coordinator, inside the network."
  value       = "https://${google_compute_address.coordinator.address}:${local.coordinator_port}"
}

output "tunnel" {
  description = "Makes the coordinator's port one of this computer's: https://127.0.0.1:7070. What else people need, a token and the coordinator's certificate, is in /var/lib/trainctl/home/token on its machine."
  value = join(" ", [
    "gcloud compute start-iap-tunnel ${google_compute_instance.coordinator.name} ${local.coordinator_port}",
    "--project ${var.project} --zone ${var.zones[0]} --local-host-port localhost:${local.coordinator_port}",
  ])
}

output "pools" {
  description = "The pools.toml that the coordinator runs with; a coordinator elsewhere can use it as well."
  value       = local.pools
}

output "instance_templates" {
  description = "What workers are launched from, by machine type."
  value       = { for type, template in google_compute_instance_template.worker : type => template.id }
}
