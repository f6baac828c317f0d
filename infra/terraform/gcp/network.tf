# A network of its own, in which no machine has an address on the internet: Google's APIs and the bucket are reached
# from inside, and people reach the coordinator through Identity-Aware Proxy.

resource "google_compute_network" "this" {
  project                 = var.project
  name                    = var.name
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "this" {
  # checkov:skip=CKV_GCP_26:Flow logs are paid for by the gigabyte, and gradients are many; turn them on where a policy asks for them.
  # checkov:skip=CKV_GCP_76:There is no IPv6 in this network.
  project                  = var.project
  name                     = var.name
  region                   = var.region
  network                  = google_compute_network.this.id
  ip_cidr_range            = var.cidr
  private_ip_google_access = true
}

# What no rule lets in is refused.

resource "google_compute_firewall" "peers" {
  project                 = var.project
  name                    = "${var.name}-peers"
  description             = "Sums and state, among workers"
  network                 = google_compute_network.this.id
  direction               = "INGRESS"
  source_service_accounts = [google_service_account.worker.email]
  target_service_accounts = [google_service_account.worker.email]

  allow {
    protocol = "tcp"
    ports    = [local.peer_port]
  }
}

resource "google_compute_firewall" "from_workers" {
  project                 = var.project
  name                    = "${var.name}-from-workers"
  description             = "Heartbeats and assignments"
  network                 = google_compute_network.this.id
  direction               = "INGRESS"
  source_service_accounts = [google_service_account.worker.email]
  target_service_accounts = [google_service_account.coordinator.email]

  allow {
    protocol = "tcp"
    ports    = [local.coordinator_port]
  }
}

resource "google_compute_firewall" "from_iap" {
  project                 = var.project
  name                    = "${var.name}-from-iap"
  description             = "People, who have shown to Identity-Aware Proxy who they are"
  network                 = google_compute_network.this.id
  direction               = "INGRESS"
  source_ranges           = [local.iap_range]
  target_service_accounts = [google_service_account.coordinator.email]

  allow {
    protocol = "tcp"
    ports    = [22, local.coordinator_port]
  }
}
