# What every worker's machine has in common. The coordinator adds instance type, zone and user data.

resource "aws_launch_template" "worker" {
  name                                 = "${var.name}-worker"
  description                          = "A worker of trainctl"
  update_default_version               = true
  image_id                             = local.image_id
  vpc_security_group_ids               = [aws_security_group.workers.id]
  instance_initiated_shutdown_behavior = "terminate"
  ebs_optimized                        = true
  tags                                 = local.tags

  iam_instance_profile {
    arn = aws_iam_instance_profile.worker.arn
  }

  # A worker asks for notices; nothing one hop further may.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/sda1"
    ebs {
      volume_size           = var.worker_disk_gb
      volume_type           = "gp3"
      encrypted             = true
      kms_key_id            = var.kms_key_arn
      delete_on_termination = true
    }
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]
    content {
      resource_type = tag_specifications.value
      tags          = merge(local.tags, { Name = "${var.name}-worker" })
    }
  }
}
