output "bucket" {
  description = "The bucket: data/ for pinned data sets, runs/ for checkpoints."
  value       = aws_s3_bucket.this.id
}

output "checkpoint_root" {
  description = "What a job names as checkpoint.root."
  value       = "s3://${aws_s3_bucket.this.id}/runs"
}

output "data_root" {
  description = "Where data sets go that jobs read."
  value       = "s3://${aws_s3_bucket.this.id}/data"
}

output "region" {
  description = "What a job names in resources.regions to stay here."
  value       = local.region
}

output "coordinator_instance_id" {
  description = "The machine that Session Manager connects to."
  value       = aws_instance.coordinator.id
}

output "coordinator_url" {
  description = "Where workers reach the coordinator, inside the network."
  value       = "https://${local.coordinator_address}:${local.coordinator_port}"
}

output "tunnel" {
  description = "Makes the coordinator's port one of this computer's: https://127.0.0.1:7070. What else people need, a token and the coordinator's certificate, is in /var/lib/trainctl/home/token on its machine."
  value = join(" ", [
    "aws ssm start-session --region ${local.region} --target ${aws_instance.coordinator.id}",
    "--document-name AWS-StartPortForwardingSessionToRemoteHost",
    "--parameters host=${local.coordinator_address},portNumber=${local.coordinator_port},localPortNumber=${local.coordinator_port}",
  ])
}

output "pools" {
  description = "The pools.toml that the coordinator runs with; a coordinator elsewhere can use it as well."
  value       = local.pools
}

output "launch_template_id" {
  description = "What workers are launched from."
  value       = aws_launch_template.worker.id
}

output "subnets" {
  description = "Where workers run, by availability zone."
  value       = { for zone, subnet in aws_subnet.workers : zone => subnet.id }
}

output "worker_security_group_id" {
  description = "Of workers."
  value       = aws_security_group.workers.id
}
