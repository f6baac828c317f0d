# What things are called.

locals {
  labels = merge({ trainctl-deployment = var.name }, var.labels)

  coordinator_port = 7070
  # As in infra/boot.
  peer_port = 7071
  # The addresses that Identity-Aware Proxy comes from, as Google documents them.
  iap_range = "35.235.240.0/20"
}
